#include "arrays.hpp"
#include "torch_sla/incomplete.hpp"

namespace {

using namespace torch_sla_bindings;

template <class Index, class T>
void bind_factors(py::module_& m) {
  m.def(
      "ilu0",
      [](const Array<Index>& crow, const Array<Index>& ccol, const Array<Index>& diagonal,
         Array<T>& values) {
        const std::int64_t n = crow.size() - 1;
        expect_size(diagonal, n, "diagonal");
        expect_size(values, ccol.size(), "values");
        const Index *r = crow.data(), *c = ccol.data(), *d = diagonal.data();
        T* a = values.mutable_data();
        const Released release;
        return torch_sla::ilu0(r, c, d, a, n);
      },
      array_arg("crow"), array_arg("ccol"), array_arg("diagonal"), array_arg("values"));

  m.def(
      "ichol0",
      [](const Array<Index>& crow, const Array<Index>& ccol, const Array<Index>& diagonal,
         Array<T>& values, double shift) {
        const std::int64_t n = crow.size() - 1;
        expect_size(diagonal, n, "diagonal");
        expect_size(values, ccol.size(), "values");
        const Index *r = crow.data(), *c = ccol.data(), *d = diagonal.data();
        T* a = values.mutable_data();
        const Released release;
        return torch_sla::ichol0(r, c, d, a, n, shift);
      },
      array_arg("crow"), array_arg("ccol"), array_arg("diagonal"), array_arg("values"),
      py::arg("shift"));

  m.def(
      "triangular_solve",
      [](const Array<Index>& crow, const Array<Index>& ccol, const Array<Index>& diagonal,
         const Array<T>& values, const std::optional<Array<T>>& inverse, Array<T>& x, bool upper,
         bool adjoint, int threads) {
        const std::int64_t n = crow.size() - 1, k = n > 0 ? x.size() / n : 0;
        expect_size(diagonal, n, "diagonal");
        expect_size(values, ccol.size(), "values");
        expect_size(x, n * k, "x");
        if (inverse) expect_size(*inverse, n, "inverse");
        const Index *r = crow.data(), *c = ccol.data(), *d = diagonal.data();
        const T *a = values.data(), *q = inverse ? inverse->data() : nullptr;
        T* out = x.mutable_data();
        const Released release;
        torch_sla::triangular_solve(r, c, d, a, q, out, n, k, upper, adjoint, threads);
      },
      array_arg("crow"), array_arg("ccol"), array_arg("diagonal"), array_arg("values"),
      array_arg("inverse").none(true), array_arg("x"), py::arg("upper"), py::arg("adjoint"),
      py::arg("threads"));
}

}  // namespace

void bind_incomplete(py::module_& m) {
  for_each_value([&](auto value) {
    for_each_index([&](auto index) { bind_factors<decltype(index), decltype(value)>(m); });
  });
}
