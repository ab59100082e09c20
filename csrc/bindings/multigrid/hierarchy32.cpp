#include "hierarchy.hpp"

namespace torch_sla_bindings {

void bind_hierarchy32(py::module_& m) { bind_hierarchy<float>(m, "Hierarchy32"); }

}  // namespace torch_sla_bindings
