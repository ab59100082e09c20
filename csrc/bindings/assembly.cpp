#include "arrays.hpp"
#include "torch_sla/assembly_contract.hpp"
#include "torch_sla/assembly_pullback.hpp"
#include "torch_sla/assembly_products.hpp"
#include "torch_sla/assembly_sum.hpp"

namespace {

using namespace torch_sla_bindings;
using torch_sla::PullbackShape;

// Turns run-time flags into template arguments: f(dim, test value, test gradient, ...).
template <bool TestValue, bool TestGradient, bool TrialValue, bool TrialGradient, class F>
void for_dim(int dim, F&& f) {
  using std::integral_constant;
  const auto flags = [&](auto d) {
    f(d, integral_constant<bool, TestValue>(), integral_constant<bool, TestGradient>(),
      integral_constant<bool, TrialValue>(), integral_constant<bool, TrialGradient>());
  };
  if (dim == 1) flags(integral_constant<int, 1>());
  else if (dim == 2) flags(integral_constant<int, 2>());
  else if (dim == 3) flags(integral_constant<int, 3>());
  else throw std::invalid_argument("`dim` must be 1, 2 or 3");
}

template <bool TestValue, bool TestGradient, class F>
void for_trial(bool value, bool gradient, int dim, F&& f) {
  if (value && gradient) for_dim<TestValue, TestGradient, true, true>(dim, f);
  else if (gradient) for_dim<TestValue, TestGradient, false, true>(dim, f);
  else if (value) for_dim<TestValue, TestGradient, true, false>(dim, f);
  else throw std::invalid_argument("the trial jet is empty");
}

template <class F>
void for_jets(bool test_value, bool test_gradient, bool trial_value, bool trial_gradient, int dim,
              F&& f) {
  if (test_value && test_gradient) for_trial<true, true>(trial_value, trial_gradient, dim, f);
  else if (test_gradient) for_trial<false, true>(trial_value, trial_gradient, dim, f);
  else if (test_value) for_trial<true, false>(trial_value, trial_gradient, dim, f);
  else throw std::invalid_argument("the test jet is empty");
}

template <class T>
struct RealOf { using type = T; };
template <class T>
struct RealOf<std::complex<T>> { using type = T; };

template <class Scalar>
void bind_pull_back(py::module_& m) {
  using Real = typename RealOf<Scalar>::type;
  const auto bind = [&](const char* name, bool adjoint) {
    m.def(
        name,
        [adjoint](const Array<Scalar>& in, const Array<Real>& inverse, const Array<Real>& measure,
                  Array<Scalar>& out, std::array<std::int64_t, 8> sizes, std::array<bool, 4> jets,
                  int dim, int threads) {
          const PullbackShape s{sizes[0], sizes[1], sizes[2], sizes[3],
                                sizes[4], sizes[5], sizes[6], sizes[7]};
          const std::int64_t slots = (jets[0] + dim * jets[1]) * (jets[2] + dim * jets[3]) *
                                     s.test_components * s.trial_components * s.batch;
          const std::int64_t held = (adjoint ? s.sites : s.coefficient_sites) * s.coefficient_points;
          expect_size(adjoint ? out : in, slots * held, "coefficients");
          expect_size(adjoint ? in : out, slots * s.sites * s.points, "pulled back");
          expect_size(measure, s.sites * s.geometry_points, "measure");
          expect_size(inverse, s.sites * s.geometry_points * dim * dim, "inverse");
          const Scalar* from = in.data();
          const Real *G = inverse.data(), *w = measure.data();
          Scalar* to = out.mutable_data();
          const Released release;
          for_jets(jets[0], jets[1], jets[2], jets[3], dim,
                   [&](auto d, auto tv, auto tg, auto uv, auto ug) {
                     if (adjoint)
                       torch_sla::pull_back_adjoint<d(), tv(), tg(), uv(), ug()>(s, from, G, w, to,
                                                                                 threads);
                     else
                       torch_sla::pull_back<d(), tv(), tg(), uv(), ug()>(s, from, G, w, to,
                                                                         threads);
                   });
        },
        array_arg("source"), array_arg("inverse"), array_arg("measure"), array_arg("result"),
        py::arg("sizes"), py::arg("jets"), py::arg("dim"), py::arg("threads"));
  };
  bind("pull_back", false);
  bind("pull_back_adjoint", true);
}

template <class Scalar>
void bind_contract(py::module_& m) {
  const auto bind = [&](const char* name, bool adjoint) {
    m.def(
        name,
        [adjoint](const Array<Scalar>& source, const Array<double>& table, Array<Scalar>& result,
                  std::array<std::int64_t, 7> sizes, int threads) {
          const torch_sla::ContractShape s{sizes[0], sizes[1], sizes[2], sizes[3],
                                           sizes[4], sizes[5], sizes[6]};
          const std::int64_t nodes = s.test_nodes * s.trial_nodes;
          const std::int64_t cells = s.test_components * s.trial_components * s.batch * s.cells;
          expect_size(adjoint ? result : source, cells * s.terms, "pulled back");
          expect_size(adjoint ? source : result, cells * nodes, "local");
          expect_size(table, s.terms * nodes, "table");
          const Scalar* from = source.data();
          const double* t = table.data();
          Scalar* to = result.mutable_data();
          const Released release;
          if (adjoint) torch_sla::contract_adjoint(s, from, t, to, threads);
          else torch_sla::contract(s, from, t, to, threads);
        },
        array_arg("source"), array_arg("table"), array_arg("result"), py::arg("sizes"),
        py::arg("threads"));
  };
  bind("contract", false);
  bind("contract_adjoint", true);
}

// What `sum_matrices` and its adjoint need besides the arrays: extents of the contraction, of the
// coefficients, their parts, and the dimension of space (0 where they come pulled back).
struct SumSizes {
  torch_sla::ContractShape contract;
  PullbackShape pull;
  std::int64_t parts, local, components;
  int dim;

  explicit SumSizes(const std::array<std::int64_t, 13>& n)
      : contract{n[0], n[1], n[2], n[3], n[4], n[5], n[6]},
        pull{n[0], n[1], n[2], n[3], n[7], n[8], n[9], n[10]},
        parts(n[11]), local(n[5]), components(n[0]), dim(static_cast<int>(n[12])) {
    if (n[0] != n[1] || n[5] != n[6])
      throw std::invalid_argument("test and trial functions must be those of one numbering");
  }
};

template <class Scalar, class Index>
void bind_sum(py::module_& m) {
  using Real = typename RealOf<Scalar>::type;
  const auto bind = [&](const char* name, bool adjoint) {
    m.def(
        name,
        [adjoint](const Array<Scalar>& source, const Array<Scalar>& weights,
                  const Array<Real>& inverse, const Array<Real>& measure,
                  const Array<double>& table, const Array<std::int64_t>& nodes,
                  const Array<Index>& pairs, const Array<Index>& starts, Array<Scalar>& result,
                  std::array<std::int64_t, 13> sizes, std::array<bool, 4> jets, int threads) {
          const SumSizes n(sizes);
          const auto& s = n.contract;
          torch_sla::Coefficients<Real, Scalar> c{};
          c.shape = n.pull;
          c.dim = n.dim;
          c.pairs = s.test_components * s.trial_components;
          c.terms = s.terms;
          c.parts = n.parts;
          c.slots = c.pairs * (jets[0] + n.dim * jets[1]) * (jets[2] + n.dim * jets[3]);
          c.weights = weights.size() ? weights.data() : nullptr;
          c.inverse = inverse.data();
          c.measure = measure.data();
          std::int64_t held = c.pairs * s.batch * s.cells * s.terms;
          if (n.dim) {
            held = n.parts * s.batch * c.shape.coefficient_points *
                   (adjoint ? s.cells : c.shape.coefficient_sites);
            expect_size(measure, s.cells * c.shape.geometry_points, "measure");
            expect_size(inverse, s.cells * c.shape.geometry_points * n.dim * n.dim, "inverse");
            if (c.weights) expect_size(weights, c.slots * n.parts, "weights");
            else if (c.slots != n.parts) throw std::invalid_argument("`weights` are missing");
            for_jets(jets[0], jets[1], jets[2], jets[3], n.dim,
                     [&](auto d, auto tv, auto tg, auto uv, auto ug) {
                       c.forward = &torch_sla::pull_back<d(), tv(), tg(), uv(), ug(), Real, Scalar>;
                       c.adjoint =
                           &torch_sla::pull_back_adjoint<d(), tv(), tg(), uv(), ug(), Real, Scalar>;
                     });
          }
          const torch_sla::Places<Index> at{nodes.data(), pairs.data(), starts.data(),
                                            starts.size() - 1, n.local, n.components};
          expect_size(nodes, s.cells * n.local, "nodes");
          expect_size(pairs, s.cells * n.local * n.local, "pairs");
          expect_size(table, s.terms * n.local * n.local, "table");
          expect_size(adjoint ? result : source, held, "coefficients");
          expect_size(adjoint ? source : result, s.batch * at.size(), "values");
          const Scalar* from = source.data();
          const double* t = table.data();
          Scalar* to = result.mutable_data();
          const Released release;
          if (adjoint) torch_sla::sum_matrices_adjoint(s, c, from, t, at, to, threads);
          else torch_sla::sum_matrices(s, c, from, t, at, to, threads);
        },
        array_arg("source"), array_arg("weights"), array_arg("inverse"), array_arg("measure"),
        array_arg("table"), array_arg("nodes"), array_arg("pairs"), array_arg("starts"),
        array_arg("result"), py::arg("sizes"), py::arg("jets"), py::arg("threads"));
  };
  bind("sum_matrices", false);
  bind("sum_matrices_adjoint", true);
}

template <class Scalar>
void bind_pair(py::module_& m) {
  using Real = typename RealOf<Scalar>::type;
  m.def(
      "pair_fields",
      [](const Array<Scalar>& left, const Array<Scalar>& right, const Array<Scalar>& weights,
         const Array<Real>& inverse, const Array<Real>& measure, const Array<double>& basis,
         const Array<double>& points, const Array<std::int64_t>& nodes, Array<Scalar>& result,
         std::array<std::int64_t, 10> sizes, int dim, std::array<bool, 4> jets, int threads) {
        torch_sla::FieldPair<Real, Scalar> f{};
        const auto to = {&f.components, &f.batch, &f.cells, &f.local, &f.points,
                         &f.coefficient_points, &f.geometry_points, &f.parts, &f.rank, &f.n_nodes};
        std::int64_t k = 0;
        for (std::int64_t* size : to) *size = sizes[k++];
        f.dim = dim;
        f.left_value = jets[0], f.left_gradient = jets[1];
        f.right_value = jets[2], f.right_gradient = jets[3];
        const std::int64_t slots = f.components * f.components * (jets[0] + dim * jets[1]) *
                                   (jets[2] + dim * jets[3]);
        expect_size(left, f.batch * f.n_nodes * f.components * f.rank, "left");
        expect_size(right, left.size(), "right");
        expect_size(inverse, f.cells * f.geometry_points * dim * dim, "inverse");
        expect_size(measure, f.cells * f.geometry_points, "measure");
        expect_size(basis, f.points * (1 + dim) * f.local, "basis");
        expect_size(points, f.points, "points");
        expect_size(nodes, f.cells * f.local, "nodes");
        expect_size(result, f.parts * f.batch * f.cells * f.coefficient_points, "result");
        if (weights.size()) expect_size(weights, slots * f.parts, "weights");
        else if (slots != f.parts) throw std::invalid_argument("`weights` are missing");
        f.nodes = nodes.data();
        f.basis = basis.data(), f.weights = points.data();
        f.inverse = inverse.data(), f.measure = measure.data();
        const Scalar *from = left.data(), *other = right.data();
        Scalar* out = result.mutable_data();
        const Released release;
        f.pair(weights.size() ? weights.data() : nullptr);
        torch_sla::pair_fields(f, from, other, out, threads);
      },
      array_arg("left"), array_arg("right"), array_arg("weights"), array_arg("inverse"),
      array_arg("measure"), array_arg("basis"), array_arg("points"), array_arg("nodes"),
      array_arg("result"), py::arg("sizes"), py::arg("dim"), py::arg("jets"), py::arg("threads"));
}

template <class Index, class Out>
void bind_expand(py::module_& m) {
  m.def(
      "expand_columns",
      [](const Array<Index>& starts, const Array<Index>& columns, const Array<std::int64_t>& first,
         const Array<std::int64_t>& rows, Array<Out>& out, int threads) {
        const std::int64_t nodes = starts.size() - 1;
        expect_size(first, nodes + 1, "first");
        expect_size(columns, starts.data()[nodes], "columns");
        expect_size(rows, first.data()[nodes] + 1, "rows");
        expect_size(out, rows.data()[rows.size() - 1], "out");
        Out* to = out.mutable_data();
        const Released release;
        torch_sla::expand_columns(starts.data(), columns.data(), first.data(), rows.data(), to,
                                  nodes, threads);
      },
      array_arg("starts"), array_arg("columns"), array_arg("first"), array_arg("rows"),
      array_arg("out"), py::arg("threads"));
}

}  // namespace

void bind_assembly(py::module_& m) {
  m.doc() = "Kernels of finite-element assembly.";
  // Double precision only: geometry is computed in it, and single precision has the torch fallback.
  bind_pull_back<double>(m);
  bind_pull_back<std::complex<double>>(m);
  bind_contract<double>(m);
  bind_contract<std::complex<double>>(m);
  bind_pair<double>(m);
  bind_pair<std::complex<double>>(m);
  for_each_index([&](auto index) {
    bind_sum<double, decltype(index)>(m);
    bind_sum<std::complex<double>, decltype(index)>(m);
    bind_expand<decltype(index), std::int32_t>(m);
    bind_expand<decltype(index), std::int64_t>(m);
  });
}
