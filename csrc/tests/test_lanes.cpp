#include <algorithm>
#include <cmath>

#include "check.hpp"
#include "torch_sla/cholesky_indefinite.hpp"
#include "torch_sla/cholesky_solve.hpp"
#include "torch_sla/lanes.hpp"
#include "torch_sla/ordering.hpp"

using namespace torch_sla;

// A grid of nx x ny points with entries of its own in every member, dominated by the diagonal.
template <class T>
struct Batch {
  std::int64_t n, members;
  std::vector<std::int32_t> start{0}, column, slot, mirror;
  std::vector<T> values;

  Batch(int nx, int ny, std::int64_t count, bool symmetric, unsigned seed) : n(nx * ny), members(count) {
    for (int i = 0; i < n; ++i) {
      for (const int j : {i - nx, i - 1, i, i + 1, i + nx})
        if (j >= 0 && j < n && (std::abs(j - i) != 1 || j / nx == i / nx)) column.push_back(j);
      start.push_back(static_cast<std::int32_t>(column.size()));
    }
    for (std::int32_t i = 0; i < n; ++i)
      for (std::int32_t e = start[i]; e < start[i + 1]; ++e) {
        slot.push_back(e);
        mirror.push_back(entry(column[e], i));
      }
    std::mt19937 random(seed);
    values.resize(members * nnz());
    for (std::int64_t k = 0; k < members; ++k)
      for (std::int32_t i = 0; i < n; ++i)
        for (std::int32_t e = start[i]; e < start[i + 1]; ++e) {
          const T x = static_cast<T>(random() % 1000) / 1000;
          const bool copied = symmetric && column[e] < i;
          at(k, e) = column[e] == i ? 6 + x : copied ? at(k, mirror[e]) : -x;
        }
  }
  std::int64_t nnz() const { return static_cast<std::int64_t>(column.size()); }
  std::int32_t entry(std::int32_t i, std::int32_t j) const {
    for (std::int32_t e = start[i]; e < start[i + 1]; ++e)
      if (column[e] == j) return e;
    return -1;
  }
  T& at(std::int64_t k, std::int64_t e) { return values[k * nnz() + e]; }
  LanePattern pattern() const { return {nnz(), start.data(), column.data(), {slot.data(), mirror.data()}}; }

  // Largest |op(A_k) x - b| for one right-hand side of each member listed.
  T error(const std::vector<std::int64_t>& listed, const std::vector<T>& x, const std::vector<T>& b, Size nrhs,
          bool transposed) {
    T worst = 0;
    for (std::size_t q = 0; q < listed.size(); ++q)
      for (Size c = 0; c < nrhs; ++c) {
        std::vector<T> r(n);
        for (std::int64_t i = 0; i < n; ++i) r[i] = -b[(q * n + i) * nrhs + c];
        for (std::int32_t i = 0; i < n; ++i)
          for (std::int32_t e = start[i]; e < start[i + 1]; ++e) {
            const std::int32_t row = transposed ? column[e] : i, from = transposed ? i : column[e];
            r[row] += at(listed[q], e) * x[(q * n + from) * nrhs + c];
          }
        for (const T v : r) worst = std::max(worst, std::isfinite(v) ? std::abs(v) : T(1e30));
      }
    return worst;
  }
};

template <class T>
void test_factors(bool symmetric, std::int64_t members, T tolerance) {
  Batch<T> batch(7, 6, members, symmetric, 3);
  const Graph g = symmetric_graph(batch.n, batch.start.data(), batch.column.data());
  const auto order = order_vertices(g, Ordering::amd, {}, 1);
  for (const FrontCost cost : {FrontCost{}, FrontCost{1e-9, 1e-6, 1e-9, 1e-9}}) {
    const auto s = std::make_shared<const Symbolic>(
        analyze(g, batch.start.data(), batch.column.data(), order, {}, {}, cost));
    const std::vector<T> probe(batch.n, T(1));
    const auto f = factorize_lanes<T>(s, batch.pattern(), batch.values.data(), members, symmetric, probe.data(), 1);
    const auto other = factorize_lanes<T>(s, batch.pattern(), batch.values.data(), members, symmetric, probe.data(), 3);
    for (std::int64_t k = 0; k < members; ++k) {
      CHECK(f.error[k] < tolerance && f.growth[k] > 0 && f.lowest[k] > 0);
      CHECK(f.error[k] == other.error[k] && f.growth[k] == other.growth[k]);
    }
    std::vector<std::int64_t> listed;  // some of them
    for (std::int64_t k = 0; k < members; ++k)
      if (k % 3 != 1) listed.push_back(k);
    for (const Size nrhs : {1, 3, 5})
      for (const bool transposed : {false, true}) {
        std::vector<T> b(listed.size() * batch.n * nrhs), x(b.size()), again(b.size());
        for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<T>(i % 13) - 6;
        solve_lanes(f, listed, b.data(), x.data(), nrhs, transposed, 1);
        CHECK(batch.error(listed, x, b, nrhs, transposed) < 100 * tolerance);
        solve_lanes(other, listed, b.data(), again.data(), nrhs, transposed, 3);
        CHECK(x == again);
        for (const bool turned : {false, true}) {  // what is left over, measured beside the solve and after it
          std::vector<T> chosen, sizes(5 * listed.size() * nrhs), wanted(sizes.size()), r(x.size());
          for (const std::int64_t k : listed)
            chosen.insert(chosen.end(), &batch.at(k, 0), &batch.at(k, 0) + batch.nnz());
          const LaneCheck<T> check{batch.start.data(), batch.column.data(), chosen.data(), turned, sizes.data()};
          solve_lanes(f, listed, b.data(), again.data(), nrhs, transposed, 2, &check);
          CHECK(x == again);
          residual_members(batch.n, batch.start.data(), batch.column.data(), chosen.data(), x.data(), b.data(),
                           static_cast<std::int64_t>(listed.size()), nrhs, turned, r.data(), wanted.data(), 1);
          for (std::size_t i = 0; i < sizes.size(); ++i)
            CHECK(std::abs(sizes[i] - wanted[i]) <= tolerance * (1 + std::abs(wanted[i])) * 10);
        }
      }
    if (!symmetric) continue;
    for (const bool positive : {true, false}) {
      const auto one = extract_lane(f, members - 1, positive);
      std::vector<T> b(batch.n, T(1)), x(batch.n);
      solve(one, b.data(), x.data(), 1, false, 1, borrowed_blas<T>());
      CHECK(batch.error({members - 1}, x, b, 1, false) < 100 * tolerance);
      CHECK(std::abs(log_determinant(one).log - lane_determinant(f, members - 1).first) < 1e3 * tolerance);
    }
  }
}

template <class T>
void test_bad_members() {
  Batch<T> batch(5, 5, 6, true, 5);
  for (std::int64_t e = 0; e < batch.nnz(); ++e) batch.at(2, e) = 0;          // singular
  for (std::int64_t e = 0; e < batch.nnz(); ++e) batch.at(4, e) *= T(-1);     // negative definite
  batch.at(5, 0) = std::numeric_limits<T>::quiet_NaN();
  const Graph g = symmetric_graph(batch.n, batch.start.data(), batch.column.data());
  const auto s = std::make_shared<const Symbolic>(
      analyze(g, batch.start.data(), batch.column.data(), order_vertices(g, Ordering::amd, {}, 1), {}));
  const std::vector<T> probe(batch.n, T(1));
  const auto f = factorize_lanes<T>(s, batch.pattern(), batch.values.data(), 6, true, probe.data(), 1);
  CHECK(f.lowest[0] > 0 && std::isfinite(f.growth[0]) && std::isfinite(f.error[3]));
  CHECK(!std::isfinite(f.growth[2]) && !std::isfinite(f.growth[5]));
  CHECK(f.lowest[4] < 0 && std::isfinite(f.growth[4]));
  CHECK(lane_determinant(f, 4).second == -1);  // 25 negative pivots
}

template <class T>
void test_measures() {
  Batch<T> batch(4, 3, 5, false, 9);
  std::vector<T> out(4 * batch.members);
  measure_lanes(batch.n, batch.start.data(), batch.column.data(), batch.values.data(), batch.members, out.data(), 2);
  for (std::int64_t k = 0; k < batch.members; ++k) {
    std::vector<T> rows(batch.n), columns(batch.n);
    for (std::int64_t i = 0; i < batch.n; ++i)
      for (std::int32_t e = batch.start[i]; e < batch.start[i + 1]; ++e) {
        rows[i] += std::abs(batch.at(k, e));
        columns[batch.column[e]] += std::abs(batch.at(k, e));
      }
    CHECK(std::abs(out[k] - *std::max_element(rows.begin(), rows.end())) < T(1e-5));
    CHECK(std::abs(out[batch.members + k] - *std::max_element(columns.begin(), columns.end())) < T(1e-5));
    CHECK(out[2 * batch.members + k] >= 1 && out[2 * batch.members + k] < T(1.2));
  }
}

int main() {
  for (const std::int64_t members : {1, 5, 19})
    for (const bool symmetric : {true, false}) {
      test_factors<double>(symmetric, members, 1e-14);
      test_factors<float>(symmetric, members, 1e-5f);
    }
  test_bad_members<double>();
  test_bad_members<float>();
  test_measures<double>();
  return failures();
}
