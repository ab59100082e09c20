// The common face of finished factorisations.
#include <string>

#include "../arrays.hpp"
#include "torch_sla/factor.hpp"

namespace torch_sla_bindings {

namespace {

using torch_sla::DirectFactor;
using torch_sla::FactorStatus;
using torch_sla::SolveMode;

const char* name_of(FactorStatus status) {
  switch (status) {
    case FactorStatus::ok: return "ok";
    case FactorStatus::not_positive_definite: return "not_positive_definite";
    case FactorStatus::singular: return "singular";
    default: return "nonfinite";
  }
}

SolveMode mode_of(char letter) {
  if (letter == 'n') return SolveMode::plain;
  if (letter == 't') return SolveMode::transposed;
  if (letter == 'h') return SolveMode::adjoint;
  throw std::invalid_argument("`mode` must be 'n', 't' or 'h'");
}

template <class T>
void bind_factor(py::module_& m, const char* name) {
  using Factor = DirectFactor<T>;
  py::class_<Factor>(m, name)
      .def_property_readonly("status", [](const Factor& f) { return name_of(f.status); })
      .def_readonly("pivot", &Factor::pivot)
      .def_readonly("nonzeros", &Factor::nonzeros)
      .def_readonly("parity", &Factor::parity)
      .def_property_readonly("bytes", &Factor::bytes)
      .def(
          "pivots",
          [](const Factor& f, Array<T>& out) {
            expect_size(out, f.n_rows, "out");
            f.pivots(out.mutable_data());
          },
          array_arg("out"))
      .def(
          "solve",
          [](const Factor& f, const Array<T>& b, Array<T>& x, char mode, int threads) {
            if (f.status != FactorStatus::ok)
              throw std::invalid_argument("the factorisation failed; there is nothing to solve with");
            const std::int64_t k = b.shape(1);
            expect_size(b, f.n_rows * k, "b");
            expect_size(x, f.n_rows * k, "x");
            const T* right = b.data();
            T* out = x.mutable_data();
            const SolveMode op = mode_of(mode);
            const Released release;
            f.solve(right, out, k, op, threads);
          },
          array_arg("b"), array_arg("x"), py::arg("mode"), py::arg("threads"));
}

}  // namespace

void bind_factors(py::module_& m) {
  bind_factor<double>(m, "FactorF64");
  bind_factor<float>(m, "FactorF32");
  bind_factor<std::complex<double>>(m, "FactorC128");
  bind_factor<std::complex<float>>(m, "FactorC64");
}

}  // namespace torch_sla_bindings
