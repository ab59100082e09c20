#include "arrays.hpp"
#include "torch_sla/assembly_contract.hpp"
#include "torch_sla/assembly_pullback.hpp"

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
          py::gil_scoped_release release;
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
          py::gil_scoped_release release;
          if (adjoint) torch_sla::contract_adjoint(s, from, t, to, threads);
          else torch_sla::contract(s, from, t, to, threads);
        },
        array_arg("source"), array_arg("table"), array_arg("result"), py::arg("sizes"),
        py::arg("threads"));
  };
  bind("contract", false);
  bind("contract_adjoint", true);
}

}  // namespace

void bind_assembly(py::module_& m) {
  m.doc() = "Kernels of finite-element assembly.";
  // Double precision only: geometry is computed in it, and single precision has the torch fallback.
  bind_pull_back<double>(m);
  bind_pull_back<std::complex<double>>(m);
  bind_contract<double>(m);
  bind_contract<std::complex<double>>(m);
}
