// The parts live in bindings/eigen/: Eigen's templates are slow to compile, so each is a file.
#include <pybind11/pybind11.h>

namespace torch_sla_bindings {
void bind_factors(pybind11::module_& m);
void bind_simplicial(pybind11::module_& m);
void bind_lu(pybind11::module_& m);
void bind_krylov(pybind11::module_& m);
}  // namespace torch_sla_bindings

void bind_eigen(pybind11::module_& m) {
  m.doc() = "Eigen's sparse direct and iterative solvers.";
  torch_sla_bindings::bind_factors(m);
  torch_sla_bindings::bind_simplicial(m);
  torch_sla_bindings::bind_lu(m);
  torch_sla_bindings::bind_krylov(m);
}
