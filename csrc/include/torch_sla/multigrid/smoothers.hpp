// Smoothers: what damps the error that a coarse grid cannot see.
//
// Jacobi-like smoothers apply x += M (f - A x) with one block M_i per row:
//   jacobi     M = w D^-1, w = 4/3 over the spectral radius of D^-1 A
//   l1_jacobi  M_ii = 1 / sum_j |a_ij| for each scalar row: convergent for every SPD matrix
//   spai0      M = argmin ||I - M A||_F over (block) diagonal matrices
// Chebyshev is a polynomial in D^-1 A; Gauss-Seidel sweeps forward before and backward after the
// coarse correction, so that each of them keeps the cycle symmetric.
#pragma once

#include "block_packs.hpp"
#include "dense.hpp"
#include "strength.hpp"

namespace torch_sla::multigrid {

enum class Smoother { jacobi, l1_jacobi, spai0, chebyshev, gauss_seidel };

constexpr double kChebyshevLower = 0.25, kChebyshevUpper = 1.05;

// acc -= (row i of A) x
template <int B, class V, class X, class I>
inline void subtract_row(const BlockMatrix<V, I>& A, std::int64_t i, const X* x, X* acc, int b) {
  if constexpr (B == 1) {
    X sum = acc[0];
    prefetch(A.val.data() + A.ptr[i]);
    for (I s = A.ptr[i], end = A.ptr[i + 1]; s < end; ++s) sum -= A.val[s] * x[A.col[s]];
    acc[0] = sum;
  } else if constexpr (kPacked && B > 1 && std::is_same_v<V, X>) {
    const I start = A.ptr[i];
    PackedRow<B, V>::subtract(A.val.data() + start * std::int64_t(B * B), A.col + start, A.ptr[i + 1] - start, x, acc);
  } else {
    const std::int64_t bb = std::int64_t(b) * b;
    for (I s = A.ptr[i], end = A.ptr[i + 1]; s < end; ++s) {
      const V* a = A.val.data() + s * bb;
      const X* xj = x + std::int64_t(A.col[s]) * b;
      prefetch(a);
      for (int r = 0; r < b; ++r) {
        X sum = a[r * b] * xj[0];  // apart, so that blocks wait for each other once
        for (int c = 1; c < b; ++c) sum += a[r * b + c] * xj[c];
        acc[r] -= sum;
      }
    }
  }
}

// y = M r, y += M r
template <int B, bool Add, class V, class X>
inline void multiply_block(const V* M, const X* r, X* y, int b) {
  for (int p = 0; p < b; ++p) {
    X sum = Add ? y[p] : X(0);
    for (int q = 0; q < b; ++q) sum += M[p * b + q] * r[q];
    y[p] = sum;
  }
}

// The block of each row; throws where the diagonal of a row with other entries cannot be inverted.
template <int B, class V, class I>
void smoother_blocks(const BlockMatrix<V, I>& A, const Buffer<I>& diagonal, Smoother kind,
                     Buffer<V>& M, int threads) {
  const int b = B ? B : A.br;
  const std::int64_t bb = std::int64_t(b) * b;
  M.resize(A.rows * bb);
  threads = threads_for(A.nnz() * bb, threads);
  std::vector<std::int64_t> bad(worker_count(A.rows, threads), -1);
  parallel_for(A.rows, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
    V S[capacity(B) * capacity(B)];
    int pivot[capacity(B)];
    for (std::int64_t i = begin; i < end; ++i) {
      V* Mi = M.data() + i * bb;
      const I d = diagonal[i];
      const V* D = d < 0 ? nullptr : A.val.data() + d * bb;
      std::fill(Mi, Mi + bb, V(0));
      bool others = false;
      for (I s = A.ptr[i]; s < A.ptr[i + 1] && !others; ++s)
        if (s != d)
          for (int e = 0; e < bb; ++e) others |= A.val[s * bb + e] != V(0);
      bool fine = true;
      if (kind == Smoother::l1_jacobi) {
        for (int r = 0; r < b; ++r) {
          V sum = 0;
          for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s)
            for (int c = 0; c < b; ++c) sum += std::abs(A.val[s * bb + r * b + c]);
          const V own = D ? D[r * b + r] : V(0);
          if (own != V(0)) Mi[r * b + r] = (own < 0 ? V(-1) : V(1)) / sum;
          fine &= own != V(0) || sum == V(0);
        }
      } else if (kind == Smoother::spai0) {
        std::fill(S, S + bb, V(0));
        for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
          const V* a = A.val.data() + s * bb;
          for (int r = 0; r < b; ++r)
            for (int c = 0; c < b; ++c)
              for (int q = 0; q < b; ++q) S[r * b + c] += a[r * b + q] * a[c * b + q];
        }
        if constexpr (B == 1) {
          fine = D && D[0] != V(0);
          if (fine) Mi[0] = D[0] / S[0];
        } else {
          fine = D && invert(S, b, pivot);
          if (fine)  // the symmetric part, which keeps the cycle symmetric
            for (int r = 0; r < b; ++r)
              for (int c = 0; c < b; ++c)
                for (int q = 0; q < b; ++q) {
                  const V m = V(0.5) * D[q * b + r] * S[q * b + c];
                  Mi[r * b + c] += m;
                  Mi[c * b + r] += m;
                }
        }
      } else {
        if (D) std::copy(D, D + bb, Mi);
        fine = D && invert(Mi, b, pivot);
        if (B != 1 && D && !fine) {
          // Modes that cannot be told apart on a small aggregate leave a singular coarse block.
          std::vector<double> block(D, D + bb);
          double pivot;
          fine = pseudo_invert(block, b, 100.0 * std::numeric_limits<V>::epsilon(), &pivot) >= 0;
          std::copy(block.begin(), block.end(), Mi);
        }
      }
      if (!fine) {
        std::fill(Mi, Mi + bb, V(0));
        if (others && bad[worker] < 0) bad[worker] = i;
      }
    }
  });
  for (std::int64_t row : bad)
    if (row >= 0)
      throw std::domain_error("the diagonal of row " + std::to_string(row) + " is zero or singular");
}

constexpr double kStableBound = 1.95, kStableRadius = 1.6;

// Bound of the spectral radius of M A by its rows, for scalars; infinite for blocks.
template <int B, class V, class I>
double row_bound(const BlockMatrix<V, I>& A, const Buffer<V>& M, int threads) {
  if (B != 1) return std::numeric_limits<double>::infinity();
  std::vector<double> most(worker_count(A.rows, threads), 0.0);
  parallel_for(A.rows, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
    V bound = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      V sum = 0;
      for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) sum += std::abs(A.val[s]);
      bound = std::max(bound, std::abs(M[i]) * sum);
    }
    most[worker] = bound;
  });
  return *std::max_element(most.begin(), most.end());
}

// Spectral radius of M A by power iteration from a fixed pseudo-random vector, made a likely upper
// bound by a tenth.
template <int B, class V, class I>
double spectral_radius(const BlockMatrix<V, I>& A, const Buffer<V>& M, int steps, int threads) {
  const int b = B ? B : A.br;
  const std::int64_t n = std::int64_t(A.rows) * b, bb = std::int64_t(b) * b;
  if (n == 0) return 1.0;
  threads = threads_for(A.nnz() * bb, threads);
  Buffer<V> x(n), y(n);
  std::uint32_t state = 2463534242u;
  for (auto& v : x) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    v = V(state / 4294967296.0 - 0.5);
  }
  double radius = 1.0;
  for (int step = 0; step < steps; ++step) {
    const double norm2 = parallel_sum(A.rows, threads, [&](std::int64_t begin, std::int64_t end) {
      double total = 0.0;
      V r[capacity(B)];
      for (std::int64_t i = begin; i < end; ++i) {
        std::fill(r, r + b, V(0));
        subtract_row<B>(A, i, x.data(), r, b);
        multiply_block<B, false>(M.data() + i * bb, r, y.data() + i * b, b);
        for (int c = 0; c < b; ++c) total += double(y[i * b + c]) * double(y[i * b + c]);
      }
      return total;
    });
    double before = 0.0;
    for (V v : x) before += double(v) * double(v);
    if (!(norm2 > 0.0) || !std::isfinite(norm2)) return 1.0;
    radius = std::sqrt(norm2 / before);
    const V scale = V(1.0 / std::sqrt(norm2));
    for (std::int64_t e = 0; e < n; ++e) x[e] = y[e] * scale;
  }
  return 1.1 * radius;
}

// x = M f over rows [begin, end)
template <int B, class V, class X>
void apply_blocks(const Buffer<V>& M, const X* f, X* x, int b, std::int64_t begin, std::int64_t end) {
  const std::int64_t bb = std::int64_t(b) * b;
  for (std::int64_t i = begin; i < end; ++i)
    multiply_block<B, false>(M.data() + i * bb, f + i * b, x + i * b, b);
}

// y = x + M (f - A x); returns f . y where Dot asks for it.
template <int B, bool Dot, class V, class X, class I>
Sum<X> relax(const BlockMatrix<V, I>& A, const Buffer<V>& M, const X* f, const X* x, X* y, int threads) {
  const int b = B ? B : A.br;
  const std::int64_t bb = std::int64_t(b) * b;
  return parallel_sum<Sum<X>>(A.rows, threads, [&](std::int64_t begin, std::int64_t end) {
    Sum<X> dot = 0.0;
    X r[capacity(B)];
    for (std::int64_t i = begin; i < end; ++i) {
      for (int c = 0; c < b; ++c) {
        r[c] = f[i * b + c];
        y[i * b + c] = x[i * b + c];
      }
      subtract_row<B>(A, i, x, r, b);
      multiply_block<B, true>(M.data() + i * bb, r, y + i * b, b);
      if constexpr (Dot)
        for (int c = 0; c < b; ++c) dot += wide(f[i * b + c]) * wide(y[i * b + c]);
    }
    return dot;
  });
}

// One Chebyshev step: d = alpha d + beta D^-1 (f - A x), y = x + d.
template <int B, bool Dot, class V, class X, class I>
Sum<X> chebyshev_step(const BlockMatrix<V, I>& A, const Buffer<V>& M, const X* f, const X* x, X* y, X* d,
                      double alpha, double beta, int threads) {
  const int b = B ? B : A.br;
  const std::int64_t bb = std::int64_t(b) * b;
  return parallel_sum<Sum<X>>(A.rows, threads, [&](std::int64_t begin, std::int64_t end) {
    Sum<X> dot = 0.0;
    X r[capacity(B)], z[capacity(B)];
    for (std::int64_t i = begin; i < end; ++i) {
      for (int c = 0; c < b; ++c) r[c] = f[i * b + c];
      subtract_row<B>(A, i, x, r, b);
      multiply_block<B, false>(M.data() + i * bb, r, z, b);
      for (int c = 0; c < b; ++c) {
        const X step = V(alpha) * d[i * b + c] + V(beta) * z[c];
        d[i * b + c] = step;
        y[i * b + c] = x[i * b + c] + step;
        if constexpr (Dot) dot += wide(f[i * b + c]) * wide(y[i * b + c]);
      }
    }
    return dot;
  });
}

// One Gauss-Seidel sweep in place; rows depend on the ones before them, so it is serial.
template <int B, class V, class X, class I>
void gauss_seidel(const BlockMatrix<V, I>& A, const Buffer<V>& M, const X* f, X* x, bool forward) {
  const int b = B ? B : A.br;
  const std::int64_t bb = std::int64_t(b) * b, n = A.rows;
  X r[capacity(B)];
  for (std::int64_t step = 0; step < n; ++step) {
    const std::int64_t i = forward ? step : n - 1 - step;
    for (int c = 0; c < b; ++c) r[c] = f[i * b + c];
    subtract_row<B>(A, i, x, r, b);
    multiply_block<B, true>(M.data() + i * bb, r, x + i * b, b);
  }
}

}  // namespace torch_sla::multigrid
