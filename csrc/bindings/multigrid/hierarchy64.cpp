#include "hierarchy.hpp"

namespace torch_sla_bindings {

void bind_hierarchy64(py::module_& m) { bind_hierarchy<double>(m, "Hierarchy64"); }

}  // namespace torch_sla_bindings
