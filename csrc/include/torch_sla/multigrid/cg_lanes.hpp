// Conjugate gradients on several right-hand sides at once: every pass over the matrix, its hierarchy and the
// vectors serves all lanes, each of which has step lengths of its own and stops on its own.
//
// The passes are those of cg.hpp. A lane that is done takes steps of length zero. What was found is
// checked against the true residual; a lane that does not hold goes to cg.hpp alone.
#pragma once

#include <array>

#include "cg.hpp"

namespace torch_sla::multigrid {

// Solves A x = b for the columns first .. first + count - 1 of b and x [n, k]. `solved` tells which of them
// are; the others hold their last iterate, if it is finite, or the start. `Runner` has elements Lanes<V, K>.
template <int K, class T, class I, class Runner>
std::array<SolveReport, K> lane_gradients(const I* ptr, const I* col, const T* val, std::int64_t n, const T* b,
                                          T* x, std::int64_t k, std::int64_t first, int count, bool zero_start,
                                          Runner& M, const SolveOptions& o, std::array<bool, K>& solved,
                                          int threads) {
  using X = Lanes<T, K>;
  using Z = typename Runner::Element;
  using S = Lanes<double, K>;
  std::array<SolveReport, K> reports;
  solved.fill(false);
  threads = threads_for(static_cast<std::int64_t>(ptr[n]) * K, threads);
  Buffer<X> r(n), p(n), q(n), xs(n);

  // to = rhs - A from, or A from where there is no rhs; returns the squares of it, or its products with `from`.
  const auto multiply = [&](const T* rhs, const X* from, X* to) {
    return parallel_sum<S>(n, threads, [&](std::int64_t begin, std::int64_t end) {
      S total = 0.0;
      for (std::int64_t i = begin; i < end; ++i) {
        X acc = T(0);
        for (I s = ptr[i], last = ptr[i + 1]; s < last; ++s) acc += val[s] * from[col[s]];
        if (rhs) {
          X own = T(0);
          for (int c = 0; c < count; ++c) own[c] = rhs[i * k + first + c];
          acc = own - acc;
        }
        to[i] = acc;
        total += wide(acc) * wide(rhs ? acc : from[i]);
      }
      return total;
    });
  };
  const auto root = [](S s) {
    for (int c = 0; c < K; ++c) s[c] = std::sqrt(s[c]);
    return s;
  };
  const auto power_of_two = [](double norm) {
    int exponent = 0;
    std::frexp(norm, &exponent);
    return norm > 0.0 && std::isfinite(norm) ? std::ldexp(1.0, -exponent) : 1.0;
  };

  for (std::int64_t i = 0; i < n; ++i) {
    X start = T(0);
    if (!zero_start)
      for (int c = 0; c < count; ++c) start[c] = x[i * k + first + c];
    xs[i] = start;
    q[i] = X(T(0));
  }
  const S bnorm = root(parallel_sum<S>(n, threads, [&](std::int64_t begin, std::int64_t end) {
    S total = 0.0;
    for (std::int64_t i = begin; i < end; ++i)
      for (int c = 0; c < count; ++c) total[c] += double(b[i * k + first + c]) * double(b[i * k + first + c]);
    return total;
  }));
  S rnorm = root(multiply(b, xs.data(), r.data()));
  S target = 0.0, best = rnorm, scale = 1.0, rho = 0.0, alpha = 0.0, beta = 0.0;
  std::array<bool, K> active{};
  std::array<int, K> since{};
  bool any = false;
  for (int c = 0; c < count; ++c) {
    target[c] = std::max(o.rtol * bnorm[c], o.atol);
    active[c] = std::isfinite(rnorm[c]) && rnorm[c] > target[c];
    any |= active[c];
    reports[c].history.push_back(rnorm[c]);
    scale[c] = power_of_two(rnorm[c]);
  }

  constexpr std::int64_t chunk = 512;
  const int mb = M.block();
  const auto update = [&](const S& step) {
    const X down(step), up(scale);
    Z* f = M.rhs();
    return parallel_sum<S>(n / mb, threads, [&](std::int64_t begin, std::int64_t end) {
      S total = 0.0;
      for (std::int64_t from = begin; from < end; from += chunk) {
        const std::int64_t to = std::min(end, from + chunk);
        for (std::int64_t e = from * mb; e < to * mb; ++e) {
          const X v = r[e] - down * q[e];
          r[e] = v;
          f[e] = Z(v * up);
          total += wide(v) * wide(v);
        }
        M.stage(from, to);
      }
      return total;
    });
  };

  if (any) {
    update(S(0.0));
    rho = M.run();
  }
  for (int iteration = 0; any && iteration < o.maxiter; ++iteration) {
    const Z* z = M.result();
    const X a(alpha), w(beta);
    parallel_for(n, threads, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t e = begin; e < end; ++e) {
        const X old = iteration ? p[e] : X(T(0));
        xs[e] += a * old;
        p[e] = X(z[e]) + w * old;
      }
    });
    const S curvature = multiply(nullptr, p.data(), q.data());
    S before = 1.0;
    for (int c = 0; c < K; ++c) {
      // A direction without curvature is left to the method for one column, which knows what to say.
      active[c] = active[c] && rho[c] > 0.0 && curvature[c] > 0.0 && std::isfinite(rho[c]) && std::isfinite(curvature[c]);
      before[c] = active[c] ? rho[c] / scale[c] : 1.0;
      alpha[c] = active[c] ? before[c] / curvature[c] : 0.0;
      scale[c] = power_of_two(rnorm[c]);
    }
    rnorm = root(update(alpha));
    any = false;
    for (int c = 0; c < count; ++c) {
      if (!active[c]) continue;
      ++reports[c].iterations;
      reports[c].history.push_back(rnorm[c]);
      since[c] = rnorm[c] < 0.9 * best[c] ? 0 : since[c] + 1;
      best[c] = std::min(best[c], rnorm[c]);
      active[c] = rnorm[c] > target[c] && since[c] < 200;
      any |= active[c];
    }
    if (any && iteration + 1 < o.maxiter) {
      rho = M.run();
      for (int c = 0; c < K; ++c) beta[c] = active[c] ? (rho[c] / scale[c]) / before[c] : 0.0;
    } else {
      const X last(alpha);
      parallel_for(n, threads, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t e = begin; e < end; ++e) xs[e] += last * p[e];
      });
    }
  }

  const S left = root(multiply(b, xs.data(), q.data()));
  for (int c = 0; c < count; ++c) {
    reports[c].residual = left[c];
    solved[c] = left[c] <= target[c];
    if (solved[c]) reports[c].status = Status::converged;
    else if (reports[c].iterations >= o.maxiter && std::isfinite(left[c])) {
      reports[c].status = Status::maxiter;
      solved[c] = true;  // nothing is left to be tried
    }
    if (!std::isfinite(left[c])) continue;
    for (std::int64_t i = 0; i < n; ++i) x[i * k + first + c] = xs[i][c];
  }
  return reports;
}

}  // namespace torch_sla::multigrid
