// The parts live in bindings/multigrid/: each kind and precision is a file, so that they compile side by side.
#include "arrays.hpp"
#include "torch_sla/multigrid/lattice.hpp"

namespace torch_sla_bindings {
void bind_hierarchy64(py::module_& m);
void bind_hierarchy32(py::module_& m);
void bind_lattice64(py::module_& m);
void bind_lattice32(py::module_& m);
}  // namespace torch_sla_bindings

void bind_multigrid(pybind11::module_& m) {
  using namespace torch_sla_bindings;
  using Index = std::int32_t;
  m.doc() = "Multigrid: algebraic, and on lattices.";
  bind_hierarchy64(m);
  bind_hierarchy32(m);
  bind_lattice64(m);
  bind_lattice32(m);
  m.def(
      "detect_lattice",
      [](const Array<Index>& crow, const Array<Index>& ccol) {
        const Index *r = crow.data(), *c = ccol.data();
        const std::int64_t rows = crow.size() - 1;
        const Released release;
        return torch_sla::multigrid::detect_lattice(r, c, rows).n;
      },
      array_arg("crow"), array_arg("ccol"));
}
