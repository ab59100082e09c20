#include "torch_sla/eigen_krylov.hpp"

#include <memory>
#include <string>
#include <vector>

#include "../arrays.hpp"

namespace torch_sla_bindings {

namespace {

using torch_sla::KrylovStatus;

const char* name_of(KrylovStatus status) {
  switch (status) {
    case KrylovStatus::converged: return "converged";
    case KrylovStatus::limit: return "limit";
    case KrylovStatus::breakdown: return "breakdown";
    default: return "nonfinite";
  }
}

template <class T>
torch_sla::RowMap<T> rows_of(const Array<int>& crow, const Array<int>& ccol,
                             const Array<T>& values) {
  const std::int64_t n = crow.size() - 1;
  expect_size(ccol, crow.data()[n], "ccol");
  expect_size(values, ccol.size(), "values");
  return torch_sla::map_rows(crow.data(), ccol.data(), values.data(), n);
}

template <class T>
void bind_method(py::module_& m, const char* name) {
  using Method = torch_sla::Krylov<T>;
  py::class_<Method>(m, name)
      .def_readonly("ready", &Method::ready)
      .def_property_readonly("bytes", &Method::bytes)
      .def(
          "solve",
          // b, x [k, n]: one system a row. Returns (status, iterations, residual, history) for each.
          [](const Method& method, const Array<int>& crow, const Array<int>& ccol,
             const Array<T>& values, const Array<T>& b, Array<T>& x, double rtol,
             std::int64_t maxiter) {
            const auto matrix = rows_of(crow, ccol, values);
            const std::int64_t k = b.shape(0), n = matrix.rows();
            expect_size(b, k * n, "b");
            expect_size(x, k * n, "x");
            const T* right = b.data();
            T* out = x.mutable_data();
            std::vector<torch_sla::KrylovReport> reports(k);
            {
              const Released release;
              for (std::int64_t c = 0; c < k; ++c)
                reports[c] = method.solve(matrix, right + c * n, out + c * n, rtol, maxiter);
            }
            py::list result;
            for (const auto& report : reports)
              result.append(py::make_tuple(name_of(report.status), report.iterations,
                                           report.residual, report.history));
            return result;
          },
          array_arg("crow"), array_arg("ccol"), array_arg("values"), array_arg("b"), array_arg("x"),
          py::arg("rtol"), py::arg("maxiter"));
  m.def(
      "krylov",
      [](const std::string& method, const std::string& preconditioner, const Array<int>& crow,
         const Array<int>& ccol, const Array<T>& values) {
        const auto matrix = rows_of(crow, ccol, values);
        const Released release;
        return torch_sla::make_krylov<T>(method, preconditioner, matrix);
      },
      py::arg("method"), py::arg("preconditioner"), array_arg("crow"), array_arg("ccol"),
      array_arg("values"));
}

}  // namespace

void bind_krylov(py::module_& m) {
  bind_method<double>(m, "KrylovF64");
  bind_method<float>(m, "KrylovF32");
  bind_method<std::complex<double>>(m, "KrylovC128");
  bind_method<std::complex<float>>(m, "KrylovC64");
}

}  // namespace torch_sla_bindings
