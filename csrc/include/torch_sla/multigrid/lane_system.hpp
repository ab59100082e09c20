// Several right-hand sides of one matrix, side by side: every pass over the matrix and its hierarchy serves all
// lanes, each of which has coefficients of its own and stops on its own.
//
// A lane that breaks down or comes to a standstill is left where it is, for the method of one right-hand side to
// go on with alone.
#pragma once

#include <array>
#include <cmath>
#include <vector>

#include "cg.hpp"

namespace torch_sla::multigrid {

// The systems A x = b for the columns first .. first + count - 1 of b and x [n, k], and their state.
template <int K, class T, class I, class Runner>
struct LaneSystem {
  static constexpr int lanes = K;
  using X = Lanes<T, K>;
  using S = Lanes<double, K>;
  using Z = typename Runner::Element;

  const Rows<T, I>& A;
  const T* b;
  std::int64_t k, first;
  int count;
  Runner& M;
  const SolveOptions& o;
  Buffer<X> x, r;
  S norm = 0.0, target = 0.0;
  std::array<bool, K> active{};
  std::array<SolveReport, K> reports;

  LaneSystem(const Rows<T, I>& rows, const T* rhs, const T* start, std::int64_t stride, std::int64_t from, int some,
             bool zero_start, Runner& runner, const SolveOptions& options)
      : A(rows), b(rhs), k(stride), first(from), count(some), M(runner), o(options), x(rows.n), r(rows.n) {
    norm = root(sweep(1, [&](std::int64_t begin, std::int64_t end, S* s) {
      for (std::int64_t i = begin; i < end; ++i) {
        x[i] = X(T(0));
        if (!zero_start)
          for (int c = 0; c < count; ++c) x[i][c] = start[i * k + first + c];
        r[i] = own(i);
        s[0] += wide(r[i]) * wide(r[i]);
      }
    })[0]);
    for (int c = 0; c < count; ++c) target[c] = std::max(o.rtol * norm[c], o.atol);
    if (zero_start) judge();
    else residual();
    for (int c = 0; c < count; ++c) reports[c].history.push_back(norm[c]);
  }

  static S root(S s) {
    for (int c = 0; c < K; ++c) s[c] = std::sqrt(s[c]);
    return s;
  }
  X own(std::int64_t i) const {
    X out = T(0);
    for (int c = 0; c < count; ++c) out[c] = b[i * k + first + c];
    return out;
  }
  bool any() const {
    for (int c = 0; c < count; ++c)
      if (active[c]) return true;
    return false;
  }
  // Calls f(begin, end, sums) for chunks of rows; returns the sums.
  template <class F>
  std::vector<S> sweep(int sums, F&& f) const {
    const int workers = worker_count(A.n, A.threads);
    std::vector<std::vector<S>> part(workers, std::vector<S>(sums, S(0.0)));
    parallel_for(A.n, A.threads, [&](std::int64_t begin, std::int64_t end, int worker) {
      for (std::int64_t from = begin; from < end; from += kChunk / K)
        f(from, std::min(end, from + kChunk / K), part[worker].data());
    });
    for (int w = 1; w < workers; ++w)
      for (int s = 0; s < sums; ++s) part[0][s] += part[w][s];
    return std::move(part[0]);
  }
  // r = b - A x, its norms, and the lanes that have further to go.
  void residual() {
    norm = root(A.template multiply<1>(x.data(), r.data(), [&](std::int64_t i, const X& ax, std::array<S, 1>& s) {
      const X v = own(i) - ax;
      s[0] += wide(v) * wide(v);
      return v;
    })[0]);
    judge();
  }
  void judge() {
    for (int c = 0; c < count; ++c) {
      reports[c].residual = norm[c];
      active[c] = std::isfinite(norm[c]) && norm[c] > target[c] && reports[c].iterations < o.maxiter;
    }
  }
  // z = M v for v of these norms.
  void precondition(const X* v, const S& size, X* z) const {
    S up = 1.0, down = 1.0;
    for (int c = 0; c < K; ++c) {
      up[c] = power_of_two_below(size[c] / std::sqrt(double(A.n)));
      down[c] = 1.0 / up[c];
    }
    const X forth(up), back(down);
    Z* f = M.rhs();
    const int width = M.block();
    parallel_for(A.n / width, A.threads, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t from = begin; from < end; from += kChunk / K) {
        const std::int64_t to = std::min(end, from + kChunk / K);
        for (std::int64_t e = from * width; e < to * width; ++e) f[e] = Z(v[e] * forth);
        M.stage(from, to);
      }
    });
    M.run();
    const Z* found = M.result();
    parallel_for(A.n, A.threads, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t e = begin; e < end; ++e) z[e] = X(found[e]) * back;
    });
  }
  // Hands the lanes over; `solved` tells for which nothing is left to be tried.
  std::array<SolveReport, K> finish(T* out, std::array<bool, K>& solved) {
    residual();
    for (int c = 0; c < count; ++c) {
      solved[c] = norm[c] <= target[c];
      if (solved[c]) {
        reports[c].status = Status::converged;
      } else if (reports[c].iterations >= o.maxiter && std::isfinite(norm[c])) {
        reports[c].status = Status::maxiter;
        solved[c] = true;
      }
      if (!std::isfinite(norm[c])) continue;
      reports[c].history.back() = norm[c];
      for (std::int64_t i = 0; i < A.n; ++i) out[i * k + first + c] = x[i][c];
    }
    return std::move(reports);
  }
};

}  // namespace torch_sla::multigrid
