// Small matrices for multigrid, and what every method around a cycle must do with them.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <vector>

#include "check.hpp"
#include "torch_sla/multigrid.hpp"

using namespace torch_sla::multigrid;

inline void expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("failed: %s\n", what);
  ++failures();
}

struct Csr {
  std::vector<int> ptr{0}, col;
  std::vector<double> val;
  std::int64_t rows() const { return static_cast<std::int64_t>(ptr.size()) - 1; }
};

// Laplacian with 2 dim + 1 entries a row on n0 x n1 x n2 points, zero beyond the edges.
inline Csr laplacian(int n0, int n1, int n2) {
  Csr A;
  const int n[3] = {n0, n1, n2}, stride[3] = {1, n0, n0 * n1};
  for (int i = 0; i < n0 * n1 * n2; ++i) {
    const int x[3] = {i % n0, i / n0 % n1, i / (n0 * n1)};
    for (int s = 2; s >= 0; --s)
      if (x[s] > 0) A.col.push_back(i - stride[s]), A.val.push_back(-1.0);
    A.col.push_back(i), A.val.push_back(2.0 * ((n0 > 1) + (n1 > 1) + (n2 > 1)));
    for (int s = 0; s < 3; ++s)
      if (x[s] + 1 < n[s]) A.col.push_back(i + stride[s]), A.val.push_back(-1.0);
    A.ptr.push_back(static_cast<int>(A.col.size()));
  }
  return A;
}

template <class Runner>
void solve(const Csr& A, Runner& run, int threads, int most, const char* what, const Offsets* offsets = nullptr) {
  const std::int64_t n = A.rows();
  std::vector<double> b(n), x(n);
  for (std::int64_t i = 0; i < n; ++i) b[i] = std::sin(0.7 * double(i) + 0.1);
  const Rows<double, int> rows{A.ptr.data(), A.col.data(), A.val.data(), n, threads, offsets};
  const auto report =
      conjugate_gradients(rows, b.data(), x.data(), true, run, SolveOptions(), static_cast<const double*>(nullptr), 0);
  expect(report.status == Status::converged && report.iterations <= most, what);
  std::vector<double> r(n);
  const double left = rows.residual(b.data(), x.data(), r.data());
  const auto largest = [](const std::vector<double>& v) {
    double most_of = 0.0;
    for (const double e : v) most_of = std::max(most_of, std::abs(e));
    return most_of;
  };
  const std::array<double, 4> sizes{largest(r), largest(x), largest(b), rows.norm(b.data())};
  expect(report.sizes && std::abs(left - report.residual) <= 1e-12 * left, "the residual is the true one");
  for (int k = 0; k < 4; ++k)
    expect(std::abs((*report.sizes)[k] - sizes[k]) <= 1e-12 * sizes[k], "sizes of the solution");
}

// Largest difference over the largest entry of the second.
inline double apart(const std::vector<double>& found, const std::vector<double>& wanted) {
  double difference = 0.0, size = 0.0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    difference = std::max(difference, std::abs(found[i] - wanted[i]));
    size = std::max(size, std::abs(wanted[i]));
  }
  return difference == 0.0 ? 0.0 : difference / size;
}

// Solutions x of K systems side by side are those of one after the other, in as many iterations or one more or less.
template <int K, class Solved, class Reports, class Solve>
void same_columns(const std::vector<double>& b, const std::vector<double>& x, const Solved& solved,
                  const Reports& reports, const char* what, const Solve& solve_one) {
  const std::size_t n = b.size() / K;
  std::vector<double> rhs(n), found(n), own(n);
  for (int c = 0; c < K; ++c) {
    for (std::size_t i = 0; i < n; ++i) rhs[i] = b[i * K + c], found[i] = x[i * K + c];
    const auto one = solve_one(rhs.data(), own.data());
    expect(solved[c] && reports[c].status == Status::converged && apart(found, own) <= 1e-6, what);
    expect(std::abs(reports[c].iterations - one.iterations) <= 1, what);
  }
}

// Columns side by side, one of them zero, find what one after the other finds; so does the cycle alone.
template <class Runner, class Wide>
void solve_lanes(const Csr& A, Runner& run, Wide& wide, int threads, const char* what,
                 const Offsets* offsets = nullptr) {
  constexpr int lanes = 4, k = 3;
  const std::int64_t n = A.rows();
  std::vector<double> b(n * k), x(n * k);
  for (std::int64_t i = 0; i < n; ++i)
    for (int c = 0; c < k; ++c) b[i * k + c] = c == 1 ? 0.0 : std::sin((0.7 + c) * double(i) + 0.1);
  std::array<bool, lanes> solved{};
  const SolveOptions o;
  const Rows<double, int> together_rows{A.ptr.data(), A.col.data(), A.val.data(), n, threads, offsets};
  LaneSystem<lanes, double, int, Wide> system(together_rows, b.data(), x.data(), k, 0, k, true, wide, o);
  lane_gradients(system);
  const auto reports = system.finish(x.data(), solved);
  const Rows<double, int> rows{A.ptr.data(), A.col.data(), A.val.data(), n, threads};
  same_columns<k>(b, x, solved, reports, what, [&](const double* column, double* own) {
    return conjugate_gradients(rows, column, own, true, run, o, static_cast<const double*>(nullptr), 0);
  });
  std::vector<double> together(n * k), alone(n * k);
  apply_lanes<lanes>(wide, b.data(), together.data(), n, k, 0, k, 1.0, threads);
  for (int c = 0; c < k; ++c) apply(run, b.data() + c, alone.data() + c, n, k, 1.0, threads);
  expect(apart(together, alone) <= 1e-5, "a cycle on columns side by side");
}

// Both methods for general matrices, forward and around the transposed cycle.
template <class Runner>
void solve_general(const Csr& A, Runner& run, int threads, int most, const char* what,
                   const Offsets* offsets = nullptr) {
  const std::int64_t n = A.rows();
  std::vector<double> b(n), x(n), r(n);
  for (std::int64_t i = 0; i < n; ++i) b[i] = std::cos(0.3 * double(i));
  const Rows<double, int> rows{A.ptr.data(), A.col.data(), A.val.data(), n, threads, offsets};
  SolveOptions o;
  o.restart = 8;
  const auto first = gmres(rows, b.data(), x.data(), true, run, o);
  expect(first.status == Status::converged && first.iterations <= most, what);
  expect(rows.residual(b.data(), x.data(), r.data()) <= 1.001e-8 * rows.norm(b.data()), what);
  const auto second = bicgstab(rows, b.data(), x.data(), true, run, o);
  expect(second.status == Status::converged && second.iterations <= most, what);
  o.maxiter = 1;
  expect(gmres(rows, b.data(), x.data(), true, run, o).status == Status::maxiter, "gmres stops");
  expect(bicgstab(rows, b.data(), x.data(), true, run, o).status == Status::maxiter, "bicgstab stops");
}

// The same side by side: three columns in four lanes, one of them zero.
template <class Runner, class Wide>
void general_lanes(const Csr& A, Runner& run, Wide& wide, int threads, const char* what) {
  constexpr int lanes = 4, k = 3;
  const std::int64_t n = A.rows();
  std::vector<double> b(n * k), x(n * k);
  for (std::int64_t i = 0; i < n; ++i)
    for (int c = 0; c < k; ++c) b[i * k + c] = c == 1 ? 0.0 : std::cos((0.3 + c) * double(i));
  const Rows<double, int> rows{A.ptr.data(), A.col.data(), A.val.data(), n, threads};
  SolveOptions o;
  o.restart = 8;
  for (const bool minimal : {true, false}) {
    LaneSystem<lanes, double, int, Wide> system(rows, b.data(), x.data(), k, 0, k, true, wide, o);
    if (minimal) lane_gmres(system);
    else lane_bicgstab(system);
    std::array<bool, lanes> solved{};
    const auto reports = system.finish(x.data(), solved);
    same_columns<k>(b, x, solved, reports, what, [&](const double* column, double* own) {
      return minimal ? gmres(rows, column, own, true, run, o) : bicgstab(rows, column, own, true, run, o);
    });
  }
}
