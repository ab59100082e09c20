// One application of the preconditioner: a V, W or K cycle from a zero guess.
//
// With as many sweeps after as before, and adjoint ones, the cycle is symmetric for a symmetric
// matrix. For the adjoint of an unsymmetric matrix the same cycle runs on the transposed matrices.
#pragma once

#include "hierarchy.hpp"

namespace torch_sla::multigrid {

constexpr double kRevisited = 0.4;

// Vectors of one solve, of elements X; a hierarchy itself is never written to by a cycle.
template <class X>
struct Workspace {
  struct Vectors {
    Buffer<X> f, x, y, d, p, q, s;
  };
  std::vector<Vectors> levels;
  std::vector<Buffer<X>> partial;  // restriction sums of the workers after the first

  std::size_t bytes() const {
    std::size_t total = 0;
    for (const auto& l : levels)
      total += bytes_of(l.f) + bytes_of(l.x) + bytes_of(l.y) + bytes_of(l.d) + bytes_of(l.p) +
               bytes_of(l.q) + bytes_of(l.s);
    for (const auto& p : partial) total += bytes_of(p);
    return total;
  }
};

// The transposed matrices and smoother blocks of a hierarchy.
template <class V, class I>
struct Adjoint {
  std::vector<BlockMatrix<V, I>> A;
  std::vector<Inverses<V, I>> M;
};

template <class V, class I>
Adjoint<V, I> adjoint(const Hierarchy<V, I>& h) {
  Adjoint<V, I> out;
  for (const auto& l : h.levels) {
    out.A.push_back(transpose(l.A));
    out.M.push_back(l.M.transposed(l.A.br));
  }
  return out;
}

template <class V, class I, class X = V>
struct CycleRunner {
  using Element = X;
  const Hierarchy<V, I>& h;
  const Adjoint<V, I>* transposed;  // null where the cycle itself is applied
  Workspace<X>& w;
  int threads;

  CycleRunner(const Hierarchy<V, I>& hierarchy, const Adjoint<V, I>* adjoint,
              Workspace<X>& work, int nthreads)
      : h(hierarchy), transposed(adjoint), w(work), threads(nthreads) {
    w.levels.resize(h.levels.size());
    for (std::size_t i = 0; i < h.levels.size(); ++i) {
      const std::size_t n = std::size_t(h.levels[i].A.rows) * h.levels[i].A.br;
      auto& v = w.levels[i];
      v.f.resize(n);
      v.x.resize(n);
      v.y.resize(n);
      if (h.options.smoother == Smoother::chebyshev) v.d.resize(n);
      if (i > 0 && h.options.cycle != Cycle::V) v.s.resize(n);
      if (i > 0 && h.options.cycle == Cycle::K) {
        v.p.resize(n);
        v.q.resize(n);
      }
    }
    w.partial.resize(threads > 1 ? threads - 1 : 0);
  }

  const BlockMatrix<V, I>& matrix(std::size_t i) const {
    return transposed ? transposed->A[i] : h.levels[i].A;
  }
  const Inverses<V, I>& blocks(std::size_t i) const {
    return transposed ? transposed->M[i] : h.levels[i].M;
  }
  int level_threads(std::size_t i) const {
    return threads_for(h.levels[i].A.nnz() * h.levels[i].A.block(), threads);
  }
  X* rhs() { return w.levels.front().f.data(); }
  const X* result() const { return w.levels.front().x.data(); }
  int block() const { return h.levels.front().A.br; }

  // First half of the first smoothing step, for rows that are still in cache.
  void stage(std::int64_t begin, std::int64_t end) {
    const auto& l = h.levels.front();
    if (h.options.smoother == Smoother::gauss_seidel || is_direct(0)) return;
    auto& v = w.levels.front();
    with_block(l.A.br, [&](auto B) {
      apply_blocks<decltype(B)::value>(blocks(0).own, v.f.data(), v.x.data(), l.A.br, begin, end);
    });
  }
  bool is_direct(std::size_t i) const { return i + 1 == h.levels.size() && !h.coarse_inverse.empty(); }

  // x = B f on the first level, `stage` done for all rows; returns f . x.
  Sum<X> run() { return cycle(0, true); }

  void swap(std::size_t i) { w.levels[i].x.swap(w.levels[i].y); }

  // Smoothing steps on level i; from a zero guess the first half step may have been staged.
  Sum<X> smooth(std::size_t i, bool before, bool staged, bool dot) {
    const auto& l = h.levels[i];
    const auto& A = matrix(i);
    auto& v = w.levels[i];
    const int t = level_threads(i), sweeps = h.options.sweeps;
    const Inverses<V, I>& M = blocks(i);
    Sum<X> product = 0.0;
    with_block(A.br, [&](auto B) {
      constexpr int b = decltype(B)::value;
      const std::int64_t rows = A.rows;
      if (h.options.smoother == Smoother::gauss_seidel) {
        if (before) std::fill(v.x.begin(), v.x.end(), X(0));
        for (int k = 0; k < sweeps; ++k) gauss_seidel<b>(A, M, v.f.data(), v.x.data(), before);
        if (dot) product = inner(v.f, v.x, t);
        return;
      }
      if (before && !staged)
        parallel_for(rows, t, [&](std::int64_t begin, std::int64_t end, int) {
          apply_blocks<b>(M.own, v.f.data(), v.x.data(), A.br, begin, end);
        });
      if (before)
        M.tied.template solve_all<b>(A, v.f.data(), static_cast<const X*>(nullptr), t, [&](std::int64_t e, const X& z) {
          v.x[e] = z;
          return Sum<X>(0.0);
        });
      if (h.options.smoother == Smoother::chebyshev) {
        const double upper = kChebyshevUpper * l.radius, lower = kChebyshevLower * l.radius;
        const double theta = 0.5 * (upper + lower), delta = 0.5 * (upper - lower);
        const double sigma = theta / delta;
        double rho = 1.0 / sigma;
        const int degree = sweeps + 1;
        for (int k = 0; k < degree; ++k) {
          if (k == 0 && before) {
            parallel_for(rows * A.br, t, [&](std::int64_t begin, std::int64_t end, int) {
              for (std::int64_t e = begin; e < end; ++e) v.x[e] = v.d[e] = v.x[e] * V(1.0 / theta);
            });
            continue;
          }
          const double next = k == 0 ? rho : 1.0 / (2.0 * sigma - rho);
          const double alpha = k == 0 ? 0.0 : next * rho, beta = k == 0 ? 1.0 / theta : 2.0 * next / delta;
          if (k == 0) std::fill(v.d.begin(), v.d.end(), X(0));
          const bool final = dot && k + 1 == degree;
          product = final ? chebyshev_step<b, true>(A, M, v.f.data(), v.x.data(), v.y.data(), v.d.data(), alpha, beta, t)
                          : chebyshev_step<b, false>(A, M, v.f.data(), v.x.data(), v.y.data(), v.d.data(), alpha, beta, t);
          rho = next;
          swap(i);
        }
        return;
      }
      for (int k = before ? 1 : 0; k < sweeps; ++k) {
        const bool final = dot && k + 1 == sweeps;
        product = final ? relax<b, true>(A, M, v.f.data(), v.x.data(), v.y.data(), t)
                        : relax<b, false>(A, M, v.f.data(), v.x.data(), v.y.data(), t);
        swap(i);
      }
    });
    return product;
  }

  static Sum<X> inner(const Buffer<X>& a, const Buffer<X>& b, int t) {
    return parallel_sum<Sum<X>>(static_cast<std::int64_t>(a.size()), t, [&](std::int64_t begin, std::int64_t end) {
      Sum<X> total = 0.0;
      for (std::int64_t e = begin; e < end; ++e) total += wide(a[e]) * wide(b[e]);
      return total;
    });
  }

  // f of level i+1 = P^T (f - A x): each row's residual is scattered while it is in registers.
  void restrict_residual(std::size_t i) {
    const auto& l = h.levels[i];
    const auto& A = matrix(i);
    auto& v = w.levels[i];
    auto& coarse = w.levels[i + 1].f;
    const int t = level_threads(i);
    with_blocks(A.br, l.P.bc, [&](auto B, auto K) {
      constexpr int bs = decltype(B)::value, ks = decltype(K)::value;
      const int b = bs ? bs : A.br, k = ks ? ks : l.P.bc;
      const std::int64_t bk = std::int64_t(b) * k;
      const int workers = worker_count(A.rows, t);
      std::vector<X*> target(workers, coarse.data());
      for (int q = 1; q < workers; ++q) {
        w.partial[q - 1].resize(coarse.size());
        target[q] = w.partial[q - 1].data();
      }
      parallel_for(A.rows, t, [&](std::int64_t begin, std::int64_t end, int worker) {
        X* out = target[worker];
        std::fill(out, out + coarse.size(), X(0));
        X r[capacity(bs)];
        for (std::int64_t row = begin; row < end; ++row) {
          for (int c = 0; c < b; ++c) r[c] = v.f[row * b + c];
          subtract_row<bs>(A, row, v.x.data(), r, b);
          for (I u = l.P.ptr[row]; u < l.P.ptr[row + 1]; ++u) {
            const V* p = l.P.val.data() + u * bk;
            X* to = out + std::int64_t(l.P.col[u]) * k;
            for (int m = 0; m < b; ++m)
              for (int c = 0; c < k; ++c) to[c] += p[m * k + c] * r[m];
          }
        }
      });
      for (int q = 1; q < workers; ++q)
        for (std::size_t e = 0; e < coarse.size(); ++e) coarse[e] += target[q][e];
    });
  }

  void prolong(std::size_t i) {
    const auto& P = h.levels[i].P;
    auto& x = w.levels[i].x;
    const auto& coarse = w.levels[i + 1].x;
    with_blocks(P.br, P.bc, [&](auto B, auto K) {
      constexpr int bs = decltype(B)::value, ks = decltype(K)::value;
      const int b = bs ? bs : P.br, k = ks ? ks : P.bc;
      const std::int64_t bk = std::int64_t(b) * k;
      parallel_for(P.rows, level_threads(i), [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t row = begin; row < end; ++row)
          for (I u = P.ptr[row]; u < P.ptr[row + 1]; ++u) {
            const V* p = P.val.data() + u * bk;
            const X* from = coarse.data() + std::int64_t(P.col[u]) * k;
            for (int m = 0; m < b; ++m) {
              X sum = x[row * b + m];
              for (int c = 0; c < k; ++c) sum += p[m * k + c] * from[c];
              x[row * b + m] = sum;
            }
          }
      });
    });
  }

  Sum<X> cycle(std::size_t i, bool staged) {
    auto& v = w.levels[i];
    const bool dot = i == 0;
    if (is_direct(i)) {
      apply_coarsest(h.coarse_inverse, v.f.data(), v.x.data(), v.f.size(), transposed != nullptr);
      return dot ? inner(v.f, v.x, 1) : Sum<X>(0.0);
    }
    smooth(i, true, staged, false);
    if (i + 1 < h.levels.size()) {
      restrict_residual(i);
      visit(i + 1);
      prolong(i);
    }
    return smooth(i, false, false, dot);
  }

  // q = A x of level i
  void multiply(std::size_t i, const Buffer<X>& x, Buffer<X>& q) {
    const auto& A = matrix(i);
    with_block(A.br, [&](auto B) {
      constexpr int bs = decltype(B)::value;
      const int b = bs ? bs : A.br;
      parallel_for(A.rows, level_threads(i), [&](std::int64_t begin, std::int64_t end, int) {
        X r[capacity(bs)];
        for (std::int64_t row = begin; row < end; ++row) {
          std::fill(r, r + b, X(0));
          subtract_row<bs>(A, row, x.data(), r, b);
          for (int c = 0; c < b; ++c) q[row * b + c] = -r[c];
        }
      });
    });
  }

  // Solves level i approximately: by one cycle (V), two (W), or two conjugate gradient steps
  // preconditioned by the cycle (K; Notay 2008). A level that is not much smaller than the one above
  // is visited once, which keeps the work of the cycle bounded when coarsening is slow. The steps of a K cycle
  // are those of one right-hand side.
  void visit(std::size_t i) {
    cycle(i, false);
    const bool small = h.levels[i].A.nnz() * h.levels[i].A.block() <=
                       kRevisited * h.levels[i - 1].A.nnz() * h.levels[i - 1].A.block();
    if (h.options.cycle == Cycle::V || is_direct(i) || !small) return;
    auto& v = w.levels[i];
    const std::size_t n = v.f.size();
    if (h.options.cycle == Cycle::W) {
      v.s = v.x;  // first result; the second cycle works on its residual
      multiply(i, v.s, v.y);
      for (std::size_t e = 0; e < n; ++e) v.f[e] -= v.y[e];
      cycle(i, false);
      for (std::size_t e = 0; e < n; ++e) v.x[e] += v.s[e];
      return;
    }
    if constexpr (is_number<X>) {
      v.p = v.x;
      v.q.resize(n);
      multiply(i, v.p, v.q);
      const double gamma = inner(v.p, v.q, 1), first = inner(v.p, v.f, 1);
      if (!(gamma > 0.0)) return;
      const double alpha = first / gamma, norm = inner(v.f, v.f, 1);
      for (std::size_t e = 0; e < n; ++e) v.f[e] -= V(alpha) * v.q[e];
      if (inner(v.f, v.f, 1) <= 0.0625 * norm) {
        for (std::size_t e = 0; e < n; ++e) v.x[e] = V(alpha) * v.p[e];
        return;
      }
      cycle(i, false);
      v.s.resize(n);
      multiply(i, v.x, v.s);
      const double cross = inner(v.x, v.q, 1), own = inner(v.x, v.s, 1), second = inner(v.x, v.f, 1);
      const double rest = own - cross * cross / gamma;
      const double beta = rest > 0.0 ? second / rest : 0.0;
      const double back = alpha - beta * cross / gamma;
      for (std::size_t e = 0; e < n; ++e) v.x[e] = V(back) * v.p[e] + V(beta) * v.x[e];
    }
  }
};

// z = B r for one column of r [n, k]; `scale` undoes the scaling of the hierarchy. r is scaled by a
// power of two into the range of V.
template <class T, class Runner>
void apply(Runner& run, const T* r, T* z, std::int64_t n, std::int64_t k, double scale, int threads) {
  double most = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double size = std::abs(double(r[i * k]));
    if (!(size <= most)) most = size;
  }
  if (!(most > 0.0) || !std::isfinite(most)) {
    for (std::int64_t i = 0; i < n; ++i) z[i * k] = most == 0.0 ? T(0) : T(most - most);
    return;
  }
  int exponent = 0;
  std::frexp(most, &exponent);
  const T down = T(std::ldexp(1.0, -exponent)), up = T(std::ldexp(scale, exponent));
  auto* f = run.rhs();
  const int b = run.block();
  parallel_for(n / b, threads_for(n, threads), [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin * b; i < end * b; ++i)
      f[i] = static_cast<std::decay_t<decltype(*f)>>(r[i * k] * down);
    run.stage(begin, end);
  });
  run.run();
  const auto* x = run.result();
  for (std::int64_t i = 0; i < n; ++i) z[i * k] = T(x[i]) * up;
}

// The same for the columns first .. first + count - 1 together; `Runner` has elements Lanes<V, K>.
template <int K, class T, class Runner>
void apply_lanes(Runner& run, const T* r, T* z, std::int64_t n, std::int64_t k, std::int64_t first, int count,
                 double scale, int threads) {
  using Z = typename Runner::Element;
  double most[K] = {};
  for (std::int64_t i = 0; i < n; ++i)
    for (int c = 0; c < count; ++c) {
      const double size = std::abs(double(r[i * k + first + c]));
      if (!(size <= most[c])) most[c] = size;
    }
  T down[K] = {}, up[K] = {};
  for (int c = 0; c < count; ++c) {
    if (!(most[c] > 0.0) || !std::isfinite(most[c])) continue;
    int exponent = 0;
    std::frexp(most[c], &exponent);
    down[c] = T(std::ldexp(1.0, -exponent));
    up[c] = T(std::ldexp(scale, exponent));
  }
  Z* f = run.rhs();
  const int b = run.block();
  parallel_for(n / b, threads_for(n * K, threads), [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin * b; i < end * b; ++i) {
      Z lane = Z(0);
      for (int c = 0; c < count; ++c)
        if (down[c] != T(0)) lane[c] = static_cast<std::decay_t<decltype(lane[c])>>(r[i * k + first + c] * down[c]);
      f[i] = lane;
    }
    run.stage(begin, end);
  });
  run.run();
  const Z* x = run.result();
  for (std::int64_t i = 0; i < n; ++i)
    for (int c = 0; c < count; ++c)
      z[i * k + first + c] = most[c] == 0.0            ? T(0)
                             : std::isfinite(most[c]) ? T(x[i][c]) * up[c]
                                                      : T(most[c] - most[c]);
}

}  // namespace torch_sla::multigrid
