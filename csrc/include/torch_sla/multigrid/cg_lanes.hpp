// Conjugate gradients on several right-hand sides at once, with the passes of cg.hpp.
//
// A lane that is done takes steps of length zero.
#pragma once

#include "lane_system.hpp"

namespace torch_sla::multigrid {

template <class System>
void lane_gradients(System& L) {
  using X = typename System::X;
  using S = typename System::S;
  using Z = typename System::Z;
  constexpr int K = System::lanes;
  using T = std::decay_t<decltype(std::declval<X>()[0])>;
  const auto& A = L.A;
  const std::int64_t n = A.n;
  Buffer<X> p(n, X(T(0))), q(n, X(T(0)));
  S scale = 1.0, alpha = 0.0, before = 0.0, best = L.norm;  // before: r . z of the last step
  std::array<int, K> since{};

  const int mb = L.M.block();
  // r -= step q, its norms, and the right-hand sides of the cycle.
  const auto update = [&](const S& step) {
    for (int c = 0; c < K; ++c) scale[c] = power_of_two_below(L.norm[c]);
    const X down(step), up(scale);
    Z* f = L.M.rhs();
    X* r = L.r.data();
    L.norm = L.root(parallel_sum<S>(n / mb, A.threads, [&](std::int64_t begin, std::int64_t end) {
      S total = 0.0;
      for (std::int64_t from = begin; from < end; from += kChunk / K) {
        const std::int64_t to = std::min(end, from + kChunk / K);
        S part = 0.0;
        for (std::int64_t e = from * mb; e < to * mb; ++e) {
          const X v = r[e] - down * q[e];
          r[e] = v;
          f[e] = Z(v * up);
          part += wide(v) * wide(v);
        }
        total += part;
        L.M.stage(from, to);
      }
      return total;
    }));
  };

  if (!L.any()) return;
  update(S(0.0));
  while (true) {
    const S rho = L.M.run();
    const Z* z = L.M.result();
    S beta = 0.0;
    for (int c = 0; c < K; ++c)
      if (L.active[c] && before[c] > 0.0) beta[c] = (rho[c] / scale[c]) / before[c];
    const X a(alpha), w(beta);
    const auto advance = [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t e = begin; e < end; ++e) {
        const X old = p[e];
        L.x[e] += a * old;
        p[e] = X(z[e]) + w * old;
      }
    };
    const auto product = [&](std::int64_t i, const X& ap, std::array<S, 1>& s) {
      s[0] += wide(ap) * wide(p[i]);
      return ap;
    };
    const S curvature = A.template multiply_after<1>(advance, p.data(), q.data(), product)[0];
    for (int c = 0; c < K; ++c) {
      // A direction without curvature is left to the method for one column, which knows what to say.
      L.active[c] = L.active[c] && rho[c] > 0.0 && curvature[c] > 0.0 && std::isfinite(rho[c]) &&
                    std::isfinite(curvature[c]);
      before[c] = L.active[c] ? rho[c] / scale[c] : 0.0;
      alpha[c] = L.active[c] ? before[c] / curvature[c] : 0.0;
    }
    update(alpha);
    for (int c = 0; c < L.count; ++c) {
      if (!L.active[c]) continue;
      auto& report = L.reports[c];
      ++report.iterations;
      report.history.push_back(L.norm[c]);
      since[c] = L.norm[c] < 0.9 * best[c] ? 0 : since[c] + 1;
      best[c] = std::min(best[c], double(L.norm[c]));
      L.active[c] = L.norm[c] > L.target[c] && since[c] < 200 && report.iterations < L.o.maxiter;
    }
    if (!L.any()) break;
  }
  const X last(alpha);
  parallel_for(n, A.threads, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t e = begin; e < end; ++e) L.x[e] += last * p[e];
  });
}

}  // namespace torch_sla::multigrid
