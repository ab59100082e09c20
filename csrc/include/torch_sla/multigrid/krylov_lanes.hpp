// GMRES and BiCGStab on several right-hand sides at once; a pass over the basis serves all lanes too.
#pragma once

#include "lane_system.hpp"

namespace torch_sla::multigrid {

template <class System>
void lane_bicgstab(System& L) {
  using X = typename System::X;
  using S = typename System::S;
  constexpr int K = System::lanes;
  using T = std::decay_t<decltype(std::declval<X>()[0])>;
  constexpr double eps = std::numeric_limits<T>::epsilon();
  const std::int64_t n = L.A.n;
  Buffer<X> shadow(L.r), p(L.r), v(n), t(n), y(n), z(n);
  const S start = L.norm;
  S rho = L.norm * L.norm, pnorm = L.norm, best = L.norm;
  std::array<int, K> since{};
  while (L.any()) {
    L.precondition(p.data(), pnorm, y.data());
    const S sv = L.A.template multiply<1>(y.data(), v.data(), [&](std::int64_t i, const X& a, std::array<S, 1>& s) {
      s[0] += wide(shadow[i]) * wide(a);
      return a;
    })[0];
    S alpha = 0.0, omega = 0.0, beta = 0.0;
    for (int c = 0; c < L.count; ++c) {
      const double step = rho[c] / sv[c];
      L.active[c] = L.active[c] && sv[c] != 0.0 && std::isfinite(step);
      if (L.active[c]) alpha[c] = step;
    }
    const X a(alpha);
    const S snorm = L.root(L.sweep(1, [&](std::int64_t begin, std::int64_t end, S* s) {
      for (std::int64_t e = begin; e < end; ++e) {
        L.r[e] -= a * v[e];
        s[0] += wide(L.r[e]) * wide(L.r[e]);
      }
    })[0]);
    L.precondition(L.r.data(), snorm, z.data());
    const auto products = L.A.template multiply<2>(z.data(), t.data(), [&](std::int64_t i, const X& row, std::array<S, 2>& s) {
      s[0] += wide(row) * wide(L.r[i]);
      s[1] += wide(row) * wide(row);
      return row;
    });
    for (int c = 0; c < L.count; ++c)
      if (L.active[c] && products[1][c] > 0.0) omega[c] = products[0][c] / products[1][c];
    const X w(omega);
    const auto after = L.sweep(2, [&](std::int64_t begin, std::int64_t end, S* s) {
      for (std::int64_t e = begin; e < end; ++e) {
        L.x[e] += a * y[e] + w * z[e];
        L.r[e] -= w * t[e];
        s[0] += wide(L.r[e]) * wide(L.r[e]);
        s[1] += wide(shadow[e]) * wide(L.r[e]);
      }
    });
    for (int c = 0; c < L.count; ++c) {
      if (!L.active[c]) continue;
      const double rnorm = std::sqrt(after[0][c]), next = after[1][c];
      auto& report = L.reports[c];
      ++report.iterations;
      report.history.push_back(rnorm);
      since[c] = rnorm < 0.9 * best[c] ? 0 : since[c] + 1;
      best[c] = std::min(best[c], rnorm);
      const bool lost = omega[c] == 0.0 || std::abs(next) <= eps * eps * rnorm * start[c];
      L.active[c] = std::isfinite(rnorm) && rnorm > L.target[c] && report.iterations < L.o.maxiter &&
                    since[c] < 200 && !lost;
      if (!L.active[c]) continue;
      beta[c] = next / rho[c] * (alpha[c] / omega[c]);
      rho[c] = next;
    }
    const X d(beta);
    pnorm = L.root(L.sweep(1, [&](std::int64_t begin, std::int64_t end, S* s) {
      for (std::int64_t e = begin; e < end; ++e) {
        p[e] = L.r[e] + d * (p[e] - w * v[e]);
        s[0] += wide(p[e]) * wide(p[e]);
      }
    })[0]);
  }
}

template <class System>
void lane_gmres(System& L) {
  using X = typename System::X;
  using S = typename System::S;
  constexpr int K = System::lanes;
  using T = std::decay_t<decltype(std::declval<X>()[0])>;
  constexpr double eps = std::numeric_limits<T>::epsilon();
  const std::int64_t n = L.A.n;
  const int restart = std::max(1, std::min(L.o.restart, L.o.maxiter));
  std::vector<Buffer<X>> basis;  // grows with the iterations
  Buffer<X> w(n), z(n);
  // basis[j] = from / size, zero where a lane is not live.
  const auto store = [&](int j, const Buffer<X>& from, const S& size, const std::array<bool, K>& live) {
    if (static_cast<int>(basis.size()) == j) basis.emplace_back(n);
    S scale = 0.0;
    for (int c = 0; c < L.count; ++c)
      if (live[c]) scale[c] = 1.0 / size[c];
    const X by(scale);
    X* to = basis[j].data();
    parallel_for(n, L.A.threads, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t e = begin; e < end; ++e) to[e] = by * from[e];
    });
  };
  // w -= sum of c_k basis[k], k <= j; returns the products of basis and w afterwards, then w . w.
  const auto pass = [&](int j, const std::vector<S>& coefficients, bool products) {
    return L.sweep(j + 2, [&](std::int64_t begin, std::int64_t end, S* s) {
      for (std::size_t q = 0; q < coefficients.size() && q <= std::size_t(j); ++q) {
        const X by(coefficients[q]);
        const X* v = basis[q].data();
        for (std::int64_t e = begin; e < end; ++e) w[e] -= by * v[e];
      }
      for (int q = 0; products && q <= j; ++q) {
        const X* v = basis[q].data();
        S sum = 0.0;
        for (std::int64_t e = begin; e < end; ++e) sum += wide(v[e]) * wide(w[e]);
        s[q] += sum;
      }
      for (std::int64_t e = begin; e < end; ++e) s[j + 1] += wide(w[e]) * wide(w[e]);
    });
  };
  S before = std::numeric_limits<double>::infinity();
  while (L.any()) {
    before = L.norm;
    std::array<bool, K> live = L.active;
    std::array<int, K> used{};
    store(0, L.r, L.norm, live);
    std::vector<std::vector<S>> R;
    std::vector<S> cosine, sine, g{L.norm};
    int j = 0;
    const auto running = [&] {
      for (int c = 0; c < L.count; ++c)
        if (live[c]) return true;
      return false;
    };
    while (j < restart && running()) {
      L.precondition(basis[j].data(), S(1.0), z.data());
      L.A.template multiply<0>(z.data(), w.data(), [](std::int64_t, const X& a, std::array<S, 0>&) { return a; });
      std::vector<S> h = pass(j, {}, true);
      const S size = L.root(h[j + 1]);
      const std::vector<S> second = pass(j, h, true);
      S left = L.root(second[j + 1]);
      bool cancelled = false;
      for (int c = 0; c < L.count; ++c) cancelled |= live[c] && left[c] < 0.7 * size[c];
      if (cancelled) {
        left = L.root(pass(j, second, false)[j + 1]);
        for (int q = 0; q <= j; ++q) h[q] += second[q];
      }
      cosine.push_back(1.0);
      sine.push_back(0.0);
      g.push_back(0.0);
      const std::array<bool, K> taking = live;
      for (int c = 0; c < L.count; ++c) {
        if (!taking[c]) continue;
        const bool exhausted = !(left[c] > 16 * eps * size[c]);
        const double below = exhausted ? 0.0 : left[c];
        for (int q = 0; q < j; ++q) {
          const double upper = cosine[q][c] * h[q][c] + sine[q][c] * h[q + 1][c];
          h[q + 1][c] = -sine[q][c] * h[q][c] + cosine[q][c] * h[q + 1][c];
          h[q][c] = upper;
        }
        const double d = std::hypot(h[j][c], below);
        auto& report = L.reports[c];
        ++report.iterations;
        live[c] = std::isfinite(d) && d > 16 * eps * size[c];
        if (live[c]) {
          cosine[j][c] = h[j][c] / d;
          sine[j][c] = below / d;
          g[j + 1][c] = -sine[j][c] * g[j][c];
          g[j][c] *= cosine[j][c];
          h[j][c] = d;
          used[c] = j + 1;
          const double now = std::abs(g[j + 1][c]);
          report.history.push_back(now);
          live[c] = now > L.target[c] && !exhausted && report.iterations < L.o.maxiter;
        } else {
          report.history.push_back(std::abs(g[j][c]));
        }
      }
      h.resize(j + 1);
      R.push_back(std::move(h));
      ++j;
      if (j < restart && running()) store(j, w, left, live);
    }
    std::vector<S> y(j, S(0.0));
    for (int c = 0; c < L.count; ++c)
      for (int q = used[c] - 1; q >= 0; --q) {
        double sum = g[q][c];
        for (int p = q + 1; p < used[c]; ++p) sum -= R[p][q][c] * y[p][c];
        y[q][c] = sum / R[q][q][c];
      }
    const S size = L.root(L.sweep(1, [&](std::int64_t begin, std::int64_t end, S* s) {
      for (std::int64_t e = begin; e < end; ++e) w[e] = X(T(0));
      for (int q = 0; q < j; ++q) {
        const X by(y[q]);
        const X* v = basis[q].data();
        for (std::int64_t e = begin; e < end; ++e) w[e] += by * v[e];
      }
      for (std::int64_t e = begin; e < end; ++e) s[0] += wide(w[e]) * wide(w[e]);
    })[0]);
    L.precondition(w.data(), size, z.data());
    parallel_for(n, L.A.threads, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t e = begin; e < end; ++e) L.x[e] += z[e];
    });
    const std::array<bool, K> were = L.active;
    L.residual();
    for (int c = 0; c < L.count; ++c)
      L.active[c] = L.active[c] && were[c] && used[c] > 0 && L.norm[c] <= 0.999 * before[c];
  }
}

}  // namespace torch_sla::multigrid
