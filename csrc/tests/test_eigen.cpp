// The factorisations reach into Eigen's solvers, so they are tested with Eigen's own assertions on.
#undef NDEBUG

#include <cmath>
#include <complex>
#include <limits>

#include "check.hpp"
#include "torch_sla/eigen_lu.hpp"
#include "torch_sla/eigen_simplicial.hpp"

using namespace torch_sla;
using Complex = std::complex<double>;

// The five-point matrix of an m by m grid plus `shift`, with an imaginary skew part when complex.
template <class T>
struct Grid {
  std::int64_t n;
  std::vector<int> crow{0}, ccol;
  std::vector<T> values;

  Grid(int m, double shift) : n(m * m) {
    for (int i = 0; i < m; ++i)
      for (int j = 0; j < m; ++j) {
        add(i - 1, j, m, -1, 0.25), add(i, j - 1, m, -1, 0.5), add(i, j, m, 4 + shift, 0);
        add(i, j + 1, m, -1, -0.5), add(i + 1, j, m, -1, -0.25);
        crow.push_back(static_cast<int>(ccol.size()));
      }
  }

  void add(int i, int j, int m, double re, double im) {
    if (i < 0 || j < 0 || i >= m || j >= m) return;
    ccol.push_back(i * m + j);
    if constexpr (std::is_same<T, Complex>::value)
      values.emplace_back(re, im);
    else
      values.push_back(re);
  }

  // Largest entry of op(A) x - b.
  double residual(const std::vector<T>& x, const std::vector<T>& b, std::int64_t k,
                  SolveMode mode) const {
    std::vector<T> r(b);
    for (std::int64_t i = 0; i < n; ++i)
      for (int e = crow[i]; e < crow[i + 1]; ++e)
        for (std::int64_t c = 0; c < k; ++c) {
          if (mode == SolveMode::plain) r[i * k + c] -= values[e] * x[ccol[e] * k + c];
          if (mode == SolveMode::transposed) r[ccol[e] * k + c] -= values[e] * x[i * k + c];
          if (mode == SolveMode::adjoint)
            r[ccol[e] * k + c] -= Scalar<T>::conj(values[e]) * x[i * k + c];
        }
    double largest = 0;
    for (const T& entry : r) largest = std::max(largest, std::abs(entry));
    return largest;
  }
};

template <class Factor, class T, class Analysis>
void check(const Grid<T>& grid, const Analysis& analysis) {
  const Factor factor(analysis, grid.values.data());
  CHECK(factor.status == FactorStatus::ok);
  auto twice = grid.values;
  for (auto& a : twice) a *= 2.0;
  const Factor other(analysis, twice.data());  // must not disturb the first
  for (std::int64_t k : {1, 3, 8, 11})
    for (const auto mode : {SolveMode::plain, SolveMode::transposed, SolveMode::adjoint})
      for (int threads : {1, 3}) {
        std::vector<T> b(grid.n * k), x(grid.n * k);
        for (std::size_t i = 0; i < b.size(); ++i) b[i] = T(std::sin(0.7 * double(i)));
        factor.solve(b.data(), x.data(), k, mode, threads);
        CHECK(grid.residual(x, b, k, mode) < 1e-12);
        other.solve(b.data(), x.data(), k, mode, threads);
        for (auto& entry : x) entry *= 2.0;
        CHECK(grid.residual(x, b, k, mode) < 1e-12);
      }
  auto broken = grid.values;
  broken[broken.size() / 2] = T(std::numeric_limits<double>::quiet_NaN());
  CHECK(Factor(analysis, broken.data()).status == FactorStatus::nonfinite);
  std::vector<T> zeros(grid.values.size(), T(0));
  CHECK(Factor(analysis, zeros.data()).pivot >= 0);
}

template <class T>
void check_all() {
  for (int m : {1, 2, 9}) {
    const Grid<T> definite(m, 0.1), indefinite(m, -2.9);
    const SimplicialAnalysis simplicial(definite.crow.data(), definite.ccol.data(), definite.n);
    const LUAnalysis lu(definite.crow.data(), definite.ccol.data(), definite.n);
    check<SimplicialFactor<T, Eigen::SimplicialLLT>>(definite, simplicial);
    check<SimplicialFactor<T, Eigen::SimplicialLDLT>>(indefinite, simplicial);
    check<LUFactor<T>>(indefinite, lu);
    if (m > 1) {
      const SimplicialFactor<T, Eigen::SimplicialLLT> failed(simplicial, indefinite.values.data());
      CHECK(failed.status == FactorStatus::not_positive_definite && failed.pivot >= 0);
    }
  }
}

int main() {
  check_all<double>();
  check_all<Complex>();
  return failures();
}
