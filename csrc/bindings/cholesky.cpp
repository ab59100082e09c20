#include <array>
#include <vector>

#include "arrays.hpp"
#include "torch_sla/cholesky_inverse.hpp"
#include "torch_sla/cholesky_solve.hpp"
#include "torch_sla/ordering.hpp"

namespace {

using namespace torch_sla_bindings;
using torch_sla::Factor;
using torch_sla::Kind;
using torch_sla::Symbolic;
using SharedSymbolic = std::shared_ptr<const Symbolic>;

template <class T>
std::vector<T> to_vector(const std::optional<Array<T>>& array, std::int64_t n, const char* name) {
  if (!array) return {};
  expect_size(*array, n, name);
  return {array->data(), array->data() + n};
}

template <class T>
Array<T> to_array(const std::vector<T>& x) {
  return Array<T>(static_cast<py::ssize_t>(x.size()), x.data());
}

void check_mates(const std::vector<std::int32_t>& mates) {
  const std::int64_t n = static_cast<std::int64_t>(mates.size());
  for (std::int64_t i = 0; i < n; ++i)
    if (mates[i] != -1 && (mates[i] < 0 || mates[i] >= n || mates[i] == i || mates[mates[i]] != i))
      throw std::invalid_argument("`mates` must pair rows with each other; row " + std::to_string(i) +
                                  " is paired with " + std::to_string(mates[i]));
}

template <class Index>
void bind_analysis(py::module_& m) {
  m.def(
      "order",
      [](const Array<Index>& crow, const Array<Index>& ccol, const std::string& method,
         const std::optional<Array<std::int32_t>>& mates, int threads) {
        using torch_sla::Ordering;
        const std::int64_t n = crow.size() - 1;
        const std::vector<std::int32_t> pairs = to_vector(mates, n, "mates");
        check_mates(pairs);
        const Ordering wanted = method == "amd"          ? Ordering::amd
                                : method == "dissection" ? Ordering::dissection
                                                         : Ordering::natural;
        const Index *start = crow.data(), *column = ccol.data();
        expect_size(ccol, start[n], "ccol");
        std::vector<std::int32_t> result;
        {
          const Released release;
          result = torch_sla::order_vertices(torch_sla::symmetric_graph(n, start, column), wanted, pairs, threads);
        }
        return to_array(result);
      },
      array_arg("crow"), array_arg("ccol"), py::arg("method"), py::arg("mates"), py::arg("threads"));

  m.def(
      "analyze",
      [](const Array<Index>& crow, const Array<Index>& ccol, const Array<std::int32_t>& order,
         const std::optional<Array<std::int32_t>>& mates, const std::optional<Array<std::uint8_t>>& joined,
         const std::optional<std::array<double, 4>>& cost) {
        const std::int64_t n = crow.size() - 1;
        expect_size(order, n, "order");
        const std::vector<std::int32_t> pairs = to_vector(mates, n, "mates");
        const std::vector<unsigned char> together = to_vector(joined, n, "joined");
        check_mates(pairs);
        const Index *start = crow.data(), *column = ccol.data();
        expect_size(ccol, start[n], "ccol");
        const std::vector<std::int32_t> given(order.data(), order.data() + n);
        torch_sla::FrontCost front;
        if (cost) front = {(*cost)[0], (*cost)[1], (*cost)[2], (*cost)[3]};
        const Released release;
        return std::make_shared<Symbolic>(torch_sla::analyze(torch_sla::symmetric_graph(n, start, column), start,
                                                             column, given, pairs, together, front));
      },
      array_arg("crow"), array_arg("ccol"), array_arg("order"), py::arg("mates"), py::arg("joined"),
      py::arg("cost") = py::none());
}

// What a factorisation hands back: the factor, and the row of A that stopped it (-1: none did).
template <class T>
struct Outcome {
  std::shared_ptr<Factor<T>> factor;
  std::int32_t row = -1;
};

template <class T>
Outcome<T> factorize(const SharedSymbolic& symbolic, const T* values, Kind kind, const torch_sla::Real<T>* scale,
                     const torch_sla::Schedule& plan, const torch_sla::Buffer<T>& panels) {
  const auto& blas = torch_sla::borrowed_blas<T>();
  auto factor = std::make_shared<Factor<T>>();
  factor->symbolic = symbolic;
  factor->kind = kind;
  factor->panels = panels;
  torch_sla::BadColumn bad;
  if (kind == Kind::cholesky) {
    bad = torch_sla::cholesky(*symbolic, values, factor->panels.data(), plan, blas);
  } else {
    if (scale) factor->scale.assign(scale, scale + symbolic->n);
    bad = torch_sla::indefinite(*factor, values, plan, blas);
  }
  return {factor, bad < 0 ? -1 : symbolic->order[bad]};
}

Kind to_kind(const std::string& name) {
  return name == "cholesky" ? Kind::cholesky : name == "symmetric" ? Kind::symmetric : Kind::hermitian;
}

template <class T>
void bind_values(py::module_& m, const char* suffix) {
  using R = torch_sla::Real<T>;
  using FactorT = Factor<T>;
  py::class_<FactorT, std::shared_ptr<FactorT>>(m, (std::string("Factor_") + suffix).c_str(), py::module_local())
      .def_property_readonly("bytes", &FactorT::bytes)
      .def_property_readonly("perturbed", [](const FactorT& f) { return f.perturbed; })
      .def_property_readonly("stuck", [](const FactorT& f) { return to_array(f.stuck); })
      .def_property_readonly("inertia",
                             [](const FactorT& f) {
                               const auto count = torch_sla::inertia(f);
                               return py::make_tuple(count.positive, count.negative, count.zero);
                             })
      .def_property_readonly("log_determinant",
                             [](const FactorT& f) {
                               const auto value = torch_sla::log_determinant(f);
                               return py::make_tuple(value.log, value.phase);
                             })
      .def(
          "solve",
          [](const FactorT& f, const Array<T>& b, Array<T>& x, bool conjugated, int threads) {
            const std::int64_t n = f.symbolic->n, nrhs = b.ndim() == 2 ? b.shape(1) : 1;
            expect_size(b, n * nrhs, "b");
            expect_size(x, n * nrhs, "x");
            const T* from = b.data();
            T* to = x.mutable_data();
            const Released release;
            const torch_sla::OneBlasThread one;
            torch_sla::solve(f, from, to, nrhs, conjugated, threads, torch_sla::borrowed_blas<T>());
          },
          array_arg("b"), array_arg("x"), py::arg("conjugated"), py::arg("threads"))
      .def(
          "selected_inverse",
          [](const FactorT& f, Array<T>& out, Array<std::uint8_t>& filled) {
            expect_size(out, f.symbolic->nnz, "out");
            expect_size(filled, f.symbolic->nnz, "filled");
            T* values = out.mutable_data();
            std::uint8_t* flags = filled.mutable_data();
            const Released release;
            const torch_sla::OneBlasThread one;
            torch_sla::selected_inverse(f, values, flags, torch_sla::borrowed_blas<T>());
          },
          array_arg("out"), array_arg("filled"));

  // values [B, nnz] and, for the indefinite kinds, scale [B, n]. One system at a time with all threads
  // inside it, or systems shared out among the threads: whichever there are more of.
  m.def(
      "factorize",
      [](const std::shared_ptr<Symbolic>& symbolic, const Array<T>& values, const std::string& kind,
         const std::optional<Array<R>>& scale, int threads) {
        const std::int64_t nnz = symbolic->nnz, n = symbolic->n;
        const std::int64_t batch = values.ndim() == 2 ? values.shape(0) : 1;
        expect_size(values, batch * nnz, "values");
        if (scale) expect_size(*scale, batch * n, "scale");
        const T* v = values.data();
        const R* s = scale ? scale->data() : nullptr;
        const Kind wanted = to_kind(kind);
        std::vector<Outcome<T>> outcomes(batch);
        {
          const Released release;
          const torch_sla::OneBlasThread one;
          const bool spread = batch >= threads;
          const torch_sla::Schedule plan = torch_sla::plan_schedule(*symbolic, spread ? 1 : threads);
          // One block for the whole batch: its pages are touched once, and can be large ones.
          const std::int64_t entries = symbolic->panel_entries();
          const torch_sla::Buffer<T> all(batch * entries);
          torch_sla::parallel_for(batch, spread ? threads : 1, [&](std::int64_t begin, std::int64_t end, int) {
            for (std::int64_t k = begin; k < end; ++k)
              outcomes[k] = factorize<T>(symbolic, v + k * nnz, wanted, s ? s + k * n : nullptr, plan,
                                            torch_sla::Buffer<T>(all, k * entries, entries));
          });
        }
        py::list result;
        for (auto& outcome : outcomes) result.append(py::make_tuple(outcome.factor, outcome.row));
        return result;
      },
      py::arg("symbolic"), array_arg("values"), py::arg("kind"), py::arg("scale"), py::arg("threads"));

  m.def(
      "solve_batch",
      [](const std::vector<std::shared_ptr<FactorT>>& factors, const Array<T>& b, Array<T>& x, bool conjugated,
         int threads) {
        const std::int64_t batch = static_cast<std::int64_t>(factors.size());
        if (batch == 0) return;
        const std::int64_t n = factors[0]->symbolic->n;
        const std::int64_t nrhs = b.ndim() == 3 ? b.shape(2) : 1;
        expect_size(b, batch * n * nrhs, "b");
        expect_size(x, batch * n * nrhs, "x");
        for (const auto& f : factors)
          if (f->symbolic->n != n) throw std::invalid_argument("`factors` differ in size");
        const T* from = b.data();
        T* to = x.mutable_data();
        const Released release;
        const torch_sla::OneBlasThread one;
        torch_sla::parallel_for(batch, threads, [&](std::int64_t begin, std::int64_t end, int) {
          for (std::int64_t k = begin; k < end; ++k)
            torch_sla::solve(*factors[k], from + k * n * nrhs, to + k * n * nrhs, nrhs, conjugated, 1,
                             torch_sla::borrowed_blas<T>());
        });
      },
      py::arg("factors"), array_arg("b"), array_arg("x"), py::arg("conjugated"), py::arg("threads"));

  // Routines named as in BLAS and LAPACK without the type's letter; addresses, 0 for none.
  m.def((std::string("lend_") + suffix).c_str(),
        [](std::uintptr_t gemm, std::uintptr_t trsm, std::uintptr_t rank, std::uintptr_t potrf) {
          using B = torch_sla::Blas<T>;
          B& table = torch_sla::borrowed_blas<T>();
          table.gemm = reinterpret_cast<typename B::Gemm*>(gemm);
          table.trsm = reinterpret_cast<typename B::Trsm*>(trsm);
          table.rank = reinterpret_cast<typename B::Rank*>(rank);
          table.potrf = reinterpret_cast<typename B::Potrf*>(potrf);
        });
}

template <class T, class Index>
void bind_both(py::module_& m) {
  using R = torch_sla::Real<T>;
  m.def(
      "match_weak_rows",
      [](const Array<Index>& crow, const Array<Index>& ccol, const Array<T>& values, double threshold,
         Array<std::int32_t>& mates) {
        const std::int64_t n = crow.size() - 1;
        expect_size(ccol, values.size(), "ccol");
        expect_size(mates, n, "mates");
        return torch_sla::match_weak_rows(n, crow.data(), ccol.data(), values.data(), static_cast<R>(threshold),
                                          mates.mutable_data());
      },
      array_arg("crow"), array_arg("ccol"), array_arg("values"), py::arg("threshold"), array_arg("mates"));
  m.def(
      "symmetric_scale",
      [](const Array<Index>& crow, const Array<Index>& ccol, const Array<T>& values, Array<R>& scale, Array<T>& scaled) {
        const std::int64_t n = crow.size() - 1;
        expect_size(ccol, values.size(), "ccol");
        expect_size(scale, n, "scale");
        expect_size(scaled, values.size(), "scaled");
        const Index *start = crow.data(), *column = ccol.data();
        const T* from = values.data();
        R* s = scale.mutable_data();
        T* to = scaled.mutable_data();
        const Released release;
        torch_sla::symmetric_scale(n, start, column, from, s);
        for (std::int64_t i = 0; i < n; ++i)
          for (std::int64_t e = start[i]; e < start[i + 1]; ++e) to[e] = from[e] * (s[i] * s[column[e]]);
      },
      array_arg("crow"), array_arg("ccol"), array_arg("values"), array_arg("scale"), array_arg("scaled"));
}

}  // namespace

void bind_cholesky(py::module_& m) {
  m.doc() = "Supernodal Cholesky and LDL factorisations.";
  py::class_<Symbolic, std::shared_ptr<Symbolic>>(m, "Symbolic", py::module_local())
      .def_property_readonly("n", [](const Symbolic& s) { return s.n; })
      .def_property_readonly("nnz", [](const Symbolic& s) { return s.nnz; })
      .def_property_readonly("order", [](const Symbolic& s) { return to_array(s.order); })
      .def_property_readonly("supernodes", &Symbolic::supernodes)
      .def_property_readonly("factor_nnz", [](const Symbolic& s) { return s.factor_nnz; })
      .def_property_readonly("flops", [](const Symbolic& s) { return s.flops; })
      .def_property_readonly("front_flops", [](const Symbolic& s) { return s.front_flops; })
      .def_property_readonly("largest_front", [](const Symbolic& s) { return s.largest_front; })
      .def_property_readonly("panel_entries", &Symbolic::panel_entries)
      .def_property_readonly("index_bytes", &Symbolic::index_bytes)
      .def("working_entries",
           [](const Symbolic& s, int threads) { return torch_sla::plan_schedule(s, threads).working_entries(); });
  for_each_index([&](auto index) { bind_analysis<decltype(index)>(m); });
  bind_values<double>(m, "d");
  bind_values<float>(m, "s");
  bind_values<std::complex<double>>(m, "z");
  bind_values<std::complex<float>>(m, "c");
  for_each_value([&](auto value) {
    for_each_index([&](auto index) { bind_both<decltype(value), decltype(index)>(m); });
  });
  m.def("lend_threads", [](std::uintptr_t get, std::uintptr_t set) {
    torch_sla::borrowed_threads() = {reinterpret_cast<int (*)()>(get), reinterpret_cast<void (*)(int)>(set)};
  });
}
