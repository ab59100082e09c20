#include "lattice.hpp"

namespace torch_sla_bindings {

void bind_lattice64(py::module_& m) { bind_lattice<double>(m, "Lattice64"); }

}  // namespace torch_sla_bindings
