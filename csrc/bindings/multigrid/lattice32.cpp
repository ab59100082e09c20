#include "lattice.hpp"

namespace torch_sla_bindings {

void bind_lattice32(py::module_& m) { bind_lattice<float>(m, "Lattice32"); }

}  // namespace torch_sla_bindings
