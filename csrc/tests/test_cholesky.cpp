#include <complex>
#include <stdexcept>

#include "check.hpp"
#include "torch_sla/cholesky_inverse.hpp"
#include "torch_sla/cholesky_solve.hpp"
#include "torch_sla/ordering.hpp"

using namespace torch_sla;
using Complex = std::complex<double>;

template <class T>
T number(std::mt19937& random) {
  const double re = static_cast<double>(random() % 2001) / 1000 - 1, im = static_cast<double>(random() % 2001) / 1000 - 1;
  if constexpr (is_complex<T>) {
    return T(static_cast<Real<T>>(re), static_cast<Real<T>>(im));
  } else {
    (void)im;
    return static_cast<T>(re);
  }
}

// A matrix in compressed rows whose pattern is symmetric, and its values.
template <class T>
struct Matrix {
  std::int64_t n = 0;
  std::vector<std::int32_t> start, column;
  std::vector<T> values;

  // Entry (i, j) comes from value(i, j), asked for i >= j only; the other is its mirror or conjugate.
  template <class Value>
  Matrix(std::int64_t size, const std::vector<std::vector<std::int32_t>>& rows, bool conjugate_mirror, Value value)
      : n(size), start(1, 0) {
    std::vector<std::vector<T>> below(n);
    for (std::int64_t i = 0; i < n; ++i)
      for (const std::int32_t j : rows[i]) below[i].push_back(j <= i ? value(i, j) : T(0));
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::size_t e = 0; e < rows[i].size(); ++e) {
        const std::int32_t j = rows[i][e];
        T x = below[i][e];
        if (j > i) {
          const auto& other = rows[j];
          x = below[j][std::find(other.begin(), other.end(), static_cast<std::int32_t>(i)) - other.begin()];
          if (conjugate_mirror) x = conjugate(x);
        }
        column.push_back(j);
        values.push_back(x);
      }
      start.push_back(static_cast<std::int32_t>(column.size()));
    }
  }

  std::vector<T> times(const std::vector<T>& x, std::int64_t k) const {
    std::vector<T> y(n * k, T(0));
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int32_t e = start[i]; e < start[i + 1]; ++e)
        for (std::int64_t c = 0; c < k; ++c) y[i * k + c] += values[e] * x[column[e] * k + c];
    return y;
  }
};

std::vector<std::vector<std::int32_t>> grid(std::int32_t a, std::int32_t b, std::int32_t c) {
  std::vector<std::vector<std::int32_t>> rows(static_cast<std::size_t>(a) * b * c);
  for (std::int32_t i = 0; i < a; ++i)
    for (std::int32_t j = 0; j < b; ++j)
      for (std::int32_t k = 0; k < c; ++k) {
        const std::int32_t at = (i * b + j) * c + k;
        if (i > 0) rows[at].push_back(at - b * c);
        if (j > 0) rows[at].push_back(at - c);
        if (k > 0) rows[at].push_back(at - 1);
        rows[at].push_back(at);
        if (k + 1 < c) rows[at].push_back(at + 1);
        if (j + 1 < b) rows[at].push_back(at + c);
        if (i + 1 < a) rows[at].push_back(at + b * c);
      }
  return rows;
}

template <class T>
Factor<T> factorized(const Matrix<T>& A, const Symbolic& s, Kind kind, int threads, BadColumn& bad) {
  Factor<T> f;
  f.symbolic = std::make_shared<const Symbolic>(s);
  f.kind = kind;
  f.panels = Buffer<T>(s.panel_entries());
  const Schedule plan = plan_schedule(*f.symbolic, threads);
  if (kind == Kind::cholesky)
    bad = cholesky<T>(*f.symbolic, A.values.data(), f.panels.data(), plan, borrowed_blas<T>());
  else
    bad = indefinite<T>(f, A.values.data(), plan, borrowed_blas<T>());
  return f;
}

template <class T>
double error_of(const Matrix<T>& A, const Factor<T>& f, std::int64_t k, int threads) {
  std::mt19937 random(7);
  std::vector<T> x(A.n * k), found(A.n * k);
  for (T& value : x) value = number<T>(random);
  const std::vector<T> b = A.times(x, k);
  solve<T>(f, b.data(), found.data(), k, false, threads, borrowed_blas<T>());
  double error = 0;
  for (std::size_t i = 0; i < x.size(); ++i) error = std::max(error, static_cast<double>(magnitude(found[i] - x[i])));
  return error;
}

template <class T>
void check_definite(const std::vector<std::vector<std::int32_t>>& rows, double limit) {
  std::mt19937 random(3);
  const Matrix<T> A(static_cast<std::int64_t>(rows.size()), rows, true, [&](std::int64_t i, std::int64_t j) {
    return i == j ? T(8) : number<T>(random);
  });
  for (const Ordering wanted : {Ordering::natural, Ordering::amd, Ordering::dissection}) {
    const Graph g = symmetric_graph(A.n, A.start.data(), A.column.data());
    const auto order = order_vertices(g, wanted, {}, 2);
    const Symbolic s = analyze(g, A.start.data(), A.column.data(), order, {});
    CHECK(s.factor_nnz <= s.panel_entries());
    BadColumn bad = 0;
    const Factor<T> one = factorized(A, s, Kind::cholesky, 1, bad);
    CHECK(bad < 0);
    const Factor<T> two = factorized(A, s, Kind::cholesky, 2, bad);
    CHECK(bad < 0);
    bool same = true;
    for (std::int32_t a = 0; a < s.supernodes(); ++a)
      for (std::int64_t j = 0; j < s.columns(a); ++j)
        for (std::int64_t i = j; i < s.rows(a); ++i) {
          const std::int64_t at = s.panel[a] + j * s.rows(a) + i;
          same = same && one.panels.data()[at] == two.panels.data()[at];
        }
    CHECK(same);
    CHECK(error_of(A, one, 1, 1) < limit);
    CHECK(error_of(A, two, 5, 2) < limit);

    // The selected inverse against columns of the inverse.
    std::vector<T> inverse(A.column.size()), b(A.n), x(A.n);
    std::vector<std::uint8_t> filled(A.column.size(), 0);
    selected_inverse<T>(one, inverse.data(), filled.data(), borrowed_blas<T>());
    const std::int64_t probe = A.n / 2;
    b[probe] = T(1);
    solve<T>(one, b.data(), x.data(), 1, false, 1, borrowed_blas<T>());
    for (std::int64_t i = 0; i < A.n; ++i)
      for (std::int32_t e = A.start[i]; e < A.start[i + 1]; ++e)
        if (A.column[e] == probe && filled[e]) CHECK(magnitude(inverse[e] - x[i]) < limit);
  }
}

template <class T>
void check_indefinite(Kind kind, double limit) {
  // A saddle point: no diagonal in the last rows, unless weak pivots find their pairs.
  auto rows = grid(5, 6, 1);
  const std::int32_t n = static_cast<std::int32_t>(rows.size()), m = 9;
  for (std::int32_t i = 0; i < m; ++i) {
    rows.push_back({});
    for (const std::int32_t j : {3 * i, 3 * i + 1, 3 * i + 2}) {
      rows[j].push_back(n + i);
      rows[n + i].push_back(j);
    }
    rows[n + i].push_back(n + i);
  }
  std::mt19937 random(11);
  const Matrix<T> A(n + m, rows, kind == Kind::hermitian, [&](std::int64_t i, std::int64_t j) {
    if (i == j) return i < n ? T(4) : T(0);
    return number<T>(random);
  });
  std::vector<std::int32_t> mates(A.n);
  const auto pairs = match_weak_rows<T>(A.n, A.start.data(), A.column.data(), A.values.data(), Real<T>(1e-3), mates.data());
  CHECK(pairs == m);
  const Graph g = symmetric_graph(A.n, A.start.data(), A.column.data());
  const auto order = order_vertices(g, Ordering::amd, mates, 1);
  const Symbolic s = analyze(g, A.start.data(), A.column.data(), order, mates);
  BadColumn bad = 0;
  const Factor<T> f = factorized(A, s, kind, 2, bad);
  CHECK(bad < 0);
  CHECK(f.perturbed == 0);
  CHECK(error_of(A, f, 3, 2) < limit);
  if (kind == Kind::hermitian) {
    const Inertia count = inertia(f);
    CHECK(count.positive + count.negative == A.n && count.negative == m && count.zero == 0);
  }
}

// Fronts that cannot pivot join their parents: a chain of zeros on the diagonal, eliminated in an order
// that pairs nothing.
void check_joined() {
  const std::int32_t n = 24;
  const auto rows = grid(n, 1, 1);
  const Matrix<double> A(n, rows, true, [&](std::int64_t i, std::int64_t j) { return i == j ? 0.0 : 1.0 + 0.1 * static_cast<double>(j % 3); });
  const Graph g = symmetric_graph(A.n, A.start.data(), A.column.data());
  std::vector<std::int32_t> order;
  for (std::int32_t i = 0; i < n; i += 2) order.push_back(i);
  for (std::int32_t i = 1; i < n; i += 2) order.push_back(i);
  FrontCost apart;
  apart.per_front = 0, apart.per_update = 0;  // merging never pays
  BadColumn bad = 0;
  std::vector<unsigned char> joined(n, 0);
  std::int64_t before = 0;
  for (int round = 0; round < 12; ++round) {
    const Symbolic s = analyze(g, A.start.data(), A.column.data(), order, {}, joined, apart);
    const Factor<double> f = factorized(A, s, Kind::hermitian, 1, bad);
    CHECK(bad < 0);
    if (round == 0) before = f.perturbed;
    if (f.perturbed == 0) {
      CHECK(round > 0 && before > 0);
      CHECK(error_of(A, f, 1, 1) < 1e-12);
      CHECK(inertia(f).positive == n / 2);
      return;
    }
    for (const std::int32_t row : f.stuck) joined[row] = 1;
  }
  CHECK(!"joining fronts found no pivots");
}

// Large enough for the tree to be cut into parts: the same bits for any number of threads.
void check_parts() {
  const auto rows = grid(100, 90, 1);
  std::mt19937 random(5);
  const Matrix<double> A(static_cast<std::int64_t>(rows.size()), rows, true, [&](std::int64_t i, std::int64_t j) {
    return i == j ? 8.0 : number<double>(random);
  });
  const Graph g = symmetric_graph(A.n, A.start.data(), A.column.data());
  const Symbolic s = analyze(g, A.start.data(), A.column.data(), order_vertices(g, Ordering::dissection, {}, 1), {});
  CHECK(s.part_root.size() > 4);
  for (const Kind kind : {Kind::cholesky, Kind::hermitian})
    for (const std::int64_t k : {1, 3}) {
      BadColumn bad = 0;
      const Factor<double> f = factorized(A, s, kind, 2, bad);
      std::vector<double> b(A.n * k), one(A.n * k), three(A.n * k);
      for (double& value : b) value = number<double>(random);
      solve<double>(f, b.data(), one.data(), k, false, 1, borrowed_blas<double>());
      solve<double>(f, b.data(), three.data(), k, false, 3, borrowed_blas<double>());
      CHECK(one == three);
      CHECK(error_of(A, f, k, 2) < 1e-12);
    }
}

void check_failures() {
  const auto rows = grid(4, 4, 1);
  const Matrix<double> A(16, rows, true, [](std::int64_t i, std::int64_t j) { return i == j ? (i == 9 ? -3.0 : 4.0) : -1.0; });
  const Graph g = symmetric_graph(A.n, A.start.data(), A.column.data());
  const Symbolic s = analyze(g, A.start.data(), A.column.data(), order_vertices(g, Ordering::amd, {}, 1), {});
  for (const int threads : {1, 2}) {
    BadColumn bad = -1;
    factorized(A, s, Kind::cholesky, threads, bad);
    CHECK(bad >= 0);
  }
  // A star eliminated from its centre fills in completely: one front beyond 32-bit offsets.
  const std::int32_t n = 70000;
  std::vector<std::int32_t> start(1, 0), column;
  for (std::int32_t j = 0; j < n; ++j) column.push_back(j);
  start.push_back(n);
  for (std::int32_t i = 1; i < n; ++i) {
    column.push_back(0);
    column.push_back(i);
    start.push_back(static_cast<std::int32_t>(column.size()));
  }
  std::vector<std::int32_t> natural(n);
  for (std::int32_t i = 0; i < n; ++i) natural[i] = i;
  bool refused = false;
  try {
    analyze(symmetric_graph(n, start.data(), column.data()), start.data(), column.data(), natural, {});
  } catch (const std::overflow_error&) {
    refused = true;
  }
  CHECK(refused);
  // From its ends it costs nothing.
  std::reverse(natural.begin(), natural.end());
  const Symbolic cheap = analyze(symmetric_graph(n, start.data(), column.data()), start.data(), column.data(), natural, {});
  CHECK(cheap.factor_nnz == 2 * n - 1);
}

int main() {
  check_definite<double>(grid(7, 9, 1), 1e-12);
  check_definite<double>(grid(5, 5, 6), 1e-12);
  check_definite<Complex>(grid(4, 5, 3), 1e-12);
  check_definite<double>(grid(1, 1, 1), 1e-14);
  check_indefinite<double>(Kind::hermitian, 1e-10);
  check_indefinite<Complex>(Kind::hermitian, 1e-10);
  check_indefinite<Complex>(Kind::symmetric, 1e-10);
  check_joined();
  check_parts();
  check_failures();
  return failures();
}
