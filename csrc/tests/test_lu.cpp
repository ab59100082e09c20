#include <algorithm>
#include <cmath>
#include <complex>

#include "check.hpp"
#include "torch_sla/lu_solve.hpp"
#include "torch_sla/ordering.hpp"

using namespace torch_sla;
using Complex = std::complex<double>;

template <class T>
T number(std::mt19937& random) {
  const double re = static_cast<double>(random() % 2001) / 1000 - 1, im = static_cast<double>(random() % 2001) / 1000 - 1;
  if constexpr (is_complex<T>) {
    return T(re, im);
  } else {
    return static_cast<T>(re);
  }
}

// A grid whose neighbours are coupled, every third of them one way only.
template <class T>
struct Grid {
  std::int64_t n;
  std::vector<std::int32_t> start{0}, column, slot, mirror;
  std::vector<T> values;  // of the entries that A has, row by row
  std::vector<T> dense;

  Grid(std::int32_t nx, std::int32_t ny, double diagonal, unsigned seed) : n(nx * ny), dense(n * n, T(0)) {
    std::mt19937 random(seed);
    std::int32_t next = 0;
    for (std::int32_t i = 0; i < n; ++i) {
      for (const std::int32_t j : {i - nx, i - 1, i, i + 1, i + nx}) {
        if (j < 0 || j >= n || (std::abs(j - i) == 1 && j / nx != i / nx)) continue;
        column.push_back(j);
        const bool there = j >= i || (i + j) % 3 != 0;
        slot.push_back(there ? next++ : -1);
        if (!there) continue;
        values.push_back(i == j ? T(static_cast<Real<T>>(diagonal)) + number<T>(random) : number<T>(random));
        dense[i * n + j] = values.back();
      }
      start.push_back(static_cast<std::int32_t>(column.size()));
    }
    for (std::int32_t i = 0; i < n; ++i)
      for (std::int32_t e = start[i]; e < start[i + 1]; ++e)
        mirror.push_back(static_cast<std::int32_t>(
            std::find(column.begin() + start[column[e]], column.begin() + start[column[e] + 1], i) - column.begin()));
  }
};

template <class T>
LuFactor<T> factorized(const Grid<T>& A, const std::shared_ptr<const Symbolic>& s, int threads, BadColumn& bad) {
  LuFactor<T> f;
  f.symbolic = s;
  f.across = across_offsets(*s);
  f.lower = Buffer<T>(s->panel_entries());
  f.upper = Buffer<T>(f.across.back());
  bad = factorize_lu<T>(f, {A.slot.data(), A.mirror.data()}, A.values.data(), plan_schedule(*s, threads),
                        borrowed_blas<T>());
  return f;
}

template <class T>
double error_of(const Grid<T>& A, const LuFactor<T>& f, std::int64_t k, bool transposed, bool conjugated, int threads) {
  std::mt19937 random(7);
  std::vector<T> x(A.n * k), b(A.n * k, T(0)), found(A.n * k);
  for (T& value : x) value = number<T>(random);
  for (std::int64_t i = 0; i < A.n; ++i)
    for (std::int64_t j = 0; j < A.n; ++j) {
      const T a = transposed ? A.dense[j * A.n + i] : A.dense[i * A.n + j];
      for (std::int64_t c = 0; c < k; ++c) b[i * k + c] += (conjugated ? conjugate(a) : a) * x[j * k + c];
    }
  solve<T>(f, b.data(), found.data(), k, transposed, conjugated, threads, borrowed_blas<T>());
  double error = 0;
  for (std::size_t i = 0; i < x.size(); ++i) error = std::max(error, static_cast<double>(magnitude(found[i] - x[i])));
  return error;
}

template <class T>
void check(std::int32_t nx, std::int32_t ny, double diagonal, double limit, bool swaps) {
  const Grid<T> A(nx, ny, diagonal, 5);
  const Graph g = symmetric_graph(A.n, A.start.data(), A.column.data());
  const auto order = order_vertices(g, Ordering::dissection, {}, 1);
  const auto s = std::make_shared<const Symbolic>(analyze(g, A.start.data(), A.column.data(), order, {}));
  BadColumn bad = 0;
  const LuFactor<T> f = factorized(A, s, 1, bad), again = factorized(A, s, 3, bad);
  CHECK(bad == -1);
  CHECK((f.interchanged > 0) == swaps);
  CHECK(std::equal(f.pivot.begin(), f.pivot.end(), again.pivot.begin()));
  CHECK(std::equal(f.lower.data(), f.lower.data() + f.lower.size(), again.lower.data()));
  CHECK(std::equal(f.upper.data(), f.upper.data() + f.upper.size(), again.upper.data()));
  for (const std::int64_t k : {1, 3, 8})
    for (const bool transposed : {false, true})
      for (const bool conjugated : {false, true})
        CHECK(error_of(A, f, k, transposed, conjugated, k == 3 ? 2 : 1) < limit);
}

int main() {
  check<double>(31, 17, 6, 1e-12, false);
  check<float>(13, 11, 6, 1e-4, false);
  check<Complex>(23, 17, 6, 1e-12, false);
  // Small diagonals: without interchanges these lose most of their digits.
  check<double>(23, 17, 0, 1e-7, true);
  check<Complex>(23, 17, 0, 1e-7, true);

  // A determinant, with its sign.
  const Grid<double> A(3, 2, 0, 9);
  const Graph g = symmetric_graph(A.n, A.start.data(), A.column.data());
  const auto s = std::make_shared<const Symbolic>(
      analyze(g, A.start.data(), A.column.data(), order_vertices(g, Ordering::amd, {}, 1), {}));
  BadColumn bad = 0;
  const auto found = log_determinant(factorized(A, s, 1, bad));
  std::vector<double> a = A.dense;
  double determinant = 1;
  for (std::int64_t q = 0; q < A.n; ++q) {
    std::int64_t best = q;
    for (std::int64_t i = q; i < A.n; ++i)
      if (std::abs(a[i * A.n + q]) > std::abs(a[best * A.n + q])) best = i;
    if (best != q) determinant = -determinant;
    for (std::int64_t c = 0; c < A.n; ++c) std::swap(a[q * A.n + c], a[best * A.n + c]);
    determinant *= a[q * A.n + q];
    for (std::int64_t i = q + 1; i < A.n; ++i) {
      const double factor = a[i * A.n + q] / a[q * A.n + q];
      for (std::int64_t c = q; c < A.n; ++c) a[i * A.n + c] -= factor * a[q * A.n + c];
    }
  }
  CHECK(std::abs(std::exp(found.first) * found.second.real() - determinant) < 1e-12 * std::abs(determinant));

  // No pivot anywhere.
  Grid<double> zero(3, 2, 0, 9);
  std::fill(zero.values.begin(), zero.values.end(), 0.0);
  factorized(zero, s, 1, bad);
  CHECK(bad >= 0);
  return failures();
}
