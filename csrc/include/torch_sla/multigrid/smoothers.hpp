// Smoothers: what damps the error that a coarse grid cannot see.
//
// Jacobi-like smoothers apply x += M (f - A x) with one block M_i per row:
//   jacobi     M = w D^-1, w = 4/3 over the spectral radius of D^-1 A
//   l1_jacobi  M_ii = 1 / sum_j |a_ij| for each scalar row: convergent for every SPD matrix
//   spai0      M = argmin ||I - M A||_F over (block) diagonal matrices, or the symmetric parts of its blocks
// with one block for each group of rows that values tie together (see tied.hpp).
// Chebyshev is a polynomial in D^-1 A; Gauss-Seidel sweeps forward before and backward after the
// coarse correction, so that each of them keeps the cycle symmetric.
#pragma once

#include "dense.hpp"
#include "strength.hpp"
#include "tied.hpp"

namespace torch_sla::multigrid {

enum class Smoother { jacobi, l1_jacobi, spai0, chebyshev, gauss_seidel };

// The blocks M: one of each row, zero for rows of a group, and one of each group.
template <class V, class I>
struct Inverses {
  Buffer<V> own;  // [rows, b, b]
  Tied<V, I> tied;

  std::size_t bytes() const { return bytes_of(own) + tied.bytes(); }
  bool operator==(const Inverses& o) const { return own == o.own && tied == o.tied; }
  void scale(V factor) {
    for (auto& m : own) m *= factor;
    for (auto& m : tied.inverse) m *= factor;
  }
  Inverses transposed(int b) const {
    Inverses out{own, tied.transposed(b)};
    const std::int64_t bb = std::int64_t(b) * b, rows = static_cast<std::int64_t>(own.size()) / bb;
    for (std::int64_t i = 0; i < rows; ++i)
      for (int r = 0; r < b; ++r)
        for (int c = 0; c < b; ++c) out.own[i * bb + r * b + c] = own[i * bb + c * b + r];
    return out;
  }
};

constexpr double kChebyshevLower = 0.25, kChebyshevUpper = 1.05;

// y = M r, y += M r
template <int B, bool Add, class V, class X>
inline void multiply_block(const V* M, const X* r, X* y, int b) {
  for (int p = 0; p < b; ++p) {
    X sum = Add ? y[p] : X(0);
    for (int q = 0; q < b; ++q) sum += M[p * b + q] * r[q];
    y[p] = sum;
  }
}

// Size of a scalar, or the square of that of a block: what takes no root to compare.
template <int B, class V>
inline V measure(const V* a, std::int64_t bb) {
  if constexpr (B == 1) return std::abs(a[0]);
  V total = 0;
  for (std::int64_t e = 0; e < bb; ++e) total += a[e] * a[e];
  return total;
}

// The blocks of the groups; rows of a group whose block is singular stay on their own. One that nothing couples to
// other rows may be singular but for rounding, and has a pseudo-inverse.
template <class V, class I>
void invert_tied(const BlockMatrix<V, I>& A, Smoother kind, Inverses<V, I>& out) {
  Tied<V, I>& t = out.tied;
  if (t.start.empty()) return;
  const int b = A.br;
  const std::int64_t bb = std::int64_t(b) * b, found = static_cast<std::int64_t>(t.start.size()) - 1;
  double Z[kMostTied * kMostTied], outside[kMostTied];
  int pivot[kMostTied];
  I kept = 0;
  for (std::int64_t g = 0; g < found; ++g) {
    const I* own = t.row.data() + t.start[g];
    const int rows = static_cast<int>(t.start[g + 1] - t.start[g]), m = rows * b;
    tied_block(A, own, rows, Z, outside);
    if (kind == Smoother::l1_jacobi)
      for (int p = 0; p < m; ++p) Z[p * m + p] += Z[p * m + p] < 0 ? -outside[p] : outside[p];
    bool alone = true;
    for (int p = 0; p < m; ++p) alone &= outside[p] == 0.0;
    if (alone) {
      std::vector<double> block(Z, Z + m * m);
      double smallest;
      if (scaled_pseudo_invert(block, m, kSingular<V>, &smallest) < 0) continue;
      std::copy(block.begin(), block.end(), Z);
    } else if (!invert(Z, m, pivot)) {
      continue;
    }
    const double weight = kind == Smoother::spai0 && !alone ? tied_weight(A, own, rows, Z) : 1.0;
    t.at.push_back(static_cast<std::int64_t>(t.inverse.size()));
    for (int e = 0; e < m * m; ++e) t.inverse.push_back(V(weight * Z[e]));
    for (int k = 0; k < rows; ++k) {
      std::fill_n(out.own.data() + own[k] * bb, bb, V(0));
      t.row[kept + k] = own[k];
    }
    t.start[t.at.size() - 1] = kept;
    kept += rows;
  }
  t.start.resize(t.at.size() + 1);
  t.start.back() = kept;
  t.row.resize(kept);
}

// The block M of SPAI-0 for a block row with the squares S = A_i: A_i:^T and the diagonal block D: M S = D^T, or the
// symmetric part of it. Where the rows depend on each other, as far as squares of V tell, M is the diagonal of their
// weights as scalar rows; false where one of them has nothing on its diagonal.
template <int B, class V>
bool least_squares_block(const double* S, const V* D, bool symmetric, V* M, int b) {
  double L[capacity(B) * capacity(B)], x[capacity(B)], scale[capacity(B)];
  for (int r = 0; r < b; ++r) scale[r] = S[r * b + r] > 0.0 ? 1.0 / std::sqrt(S[r * b + r]) : 1.0;
  bool sound = true;
  for (int r = 0; r < b && sound; ++r)
    for (int c = 0; c <= r; ++c) {
      double sum = S[r * b + c] * scale[r] * scale[c];
      for (int k = 0; k < c; ++k) sum -= L[r * b + k] * L[c * b + k];
      if (c < r) {
        L[r * b + c] = sum / L[c * b + c];
      } else {
        sound = sum > b * double(std::numeric_limits<V>::epsilon());
        L[r * b + r] = sound ? std::sqrt(sum) : 1.0;
      }
    }
  std::fill(M, M + b * b, V(0));
  if (!sound) {
    bool fine = true;
    for (int r = 0; r < b; ++r) {
      const double own = double(D[r * b + r]) * scale[r] * scale[r];
      M[r * b + r] = V(own);
      fine &= own != 0.0 || S[r * b + r] == 0.0;
    }
    return fine;
  }
  for (int r = 0; r < b; ++r) {  // row r of M from column r of D
    for (int c = 0; c < b; ++c) {
      x[c] = D[c * b + r] * scale[c];
      for (int k = 0; k < c; ++k) x[c] -= L[c * b + k] * x[k];
      x[c] /= L[c * b + c];
    }
    for (int c = b - 1; c >= 0; --c) {
      for (int k = c + 1; k < b; ++k) x[c] -= L[k * b + c] * x[k];
      x[c] /= L[c * b + c];
    }
    for (int c = 0; c < b; ++c) {
      const V m = V((symmetric ? 0.5 : 1.0) * x[c] * scale[c]);
      M[r * b + c] += m;
      if (symmetric) M[c * b + r] += m;
    }
  }
  return true;
}

// The block of each row and group; throws where the diagonal of a row with other entries cannot be inverted. Blocks of
// SPAI-0 are made `symmetric`, which keeps the cycle so, or left as they are.
template <int B, class V, class I>
void smoother_blocks(const BlockMatrix<V, I>& A, const Buffer<I>& diagonal, Smoother kind, bool symmetric,
                     Inverses<V, I>& out, int threads) {
  const int b = B ? B : A.br;
  const std::int64_t bb = std::int64_t(b) * b;
  Buffer<V>& M = out.own;
  M.resize(A.rows * bb);
  threads = threads_for(A.nnz() * bb, threads);
  std::vector<std::int64_t> bad(worker_count(A.rows, threads), -1);
  std::vector<std::vector<I>> near(bad.size());  // rows that may be tied to another
  const V tied = V(B == 1 ? std::sqrt(kTied) : kTied);
  const auto size = [&](I s) {
    return B == 1 ? std::abs(double(A.val[s])) : frobenius<B>(A.val.data() + s * bb, static_cast<int>(bb));
  };
  parallel_for(A.rows, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
    double S[capacity(B) * capacity(B)];
    int pivot[capacity(B)];
    for (std::int64_t i = begin; i < end; ++i) {
      V* Mi = M.data() + i * bb;
      const I d = diagonal[i];
      const V* D = d < 0 ? nullptr : A.val.data() + d * bb;
      std::fill(Mi, Mi + bb, V(0));
      V most = 0;
      for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s)
        most = std::max(most, s == d ? V(0) : measure<B>(A.val.data() + s * bb, bb));
      const bool others = most > V(0);
      if (D && others && most >= tied * measure<B>(D, bb)) near[worker].push_back(static_cast<I>(i));
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
        std::fill(S, S + bb, 0.0);
        for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
          const V* a = A.val.data() + s * bb;
          for (int r = 0; r < b; ++r)
            for (int c = 0; c < b; ++c)
              for (int q = 0; q < b; ++q) S[r * b + c] += double(a[r * b + q]) * double(a[c * b + q]);
        }
        if constexpr (B == 1) {
          fine = D && D[0] != V(0);
          if (fine) Mi[0] = V(double(D[0]) / S[0]);
        } else {
          fine = D && least_squares_block<B>(S, D, symmetric, Mi, b);
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
  for (std::size_t w = 1; w < near.size(); ++w) near[0].insert(near[0].end(), near[w].begin(), near[w].end());
  find_tied(A, diagonal, near[0], out.tied, size);
  invert_tied(A, kind, out);
}

constexpr double kStableBound = 1.95, kStableRadius = 1.6;

// Bound of the spectral radius of M A by its rows, for scalars; infinite for blocks.
template <int B, class V, class I>
double row_bound(const BlockMatrix<V, I>& A, const Inverses<V, I>& M, int threads) {
  if (B != 1) return std::numeric_limits<double>::infinity();
  std::vector<double> most(worker_count(A.rows, threads), 0.0);
  parallel_for(A.rows, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
    V bound = 0;
    for (std::int64_t i = begin; i < end; ++i) {
      V sum = 0;
      for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) sum += std::abs(A.val[s]);
      bound = std::max(bound, std::abs(M.own[i]) * sum);
    }
    most[worker] = bound;
  });
  double bound = *std::max_element(most.begin(), most.end());
  const Tied<V, I>& t = M.tied;
  for (std::int64_t g = 0; g < t.count(); ++g) {
    const I* rows = t.row.data() + t.start[g];
    const I m = t.start[g + 1] - t.start[g];
    for (I p = 0; p < m; ++p) {
      double total = 0.0;
      for (I q = 0; q < m; ++q)
        for (I s = A.ptr[rows[q]]; s < A.ptr[rows[q] + 1]; ++s)
          total += std::abs(double(t.inverse[t.at[g] + p * m + q]) * double(A.val[s]));
      bound = std::max(bound, total);
    }
  }
  return bound;
}

// Spectral radius of M A by power iteration from a fixed pseudo-random vector, made a likely upper
// bound by a tenth.
template <int B, class V, class I>
double spectral_radius(const BlockMatrix<V, I>& A, const Inverses<V, I>& M, int steps, int threads) {
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
    double norm2 = parallel_sum(A.rows, threads, [&](std::int64_t begin, std::int64_t end) {
      double total = 0.0;
      V r[capacity(B)];
      for (std::int64_t i = begin; i < end; ++i) {
        std::fill(r, r + b, V(0));
        subtract_row<B>(A, i, x.data(), r, b);
        multiply_block<B, false>(M.own.data() + i * bb, r, y.data() + i * b, b);
        for (int c = 0; c < b; ++c) total += double(y[i * b + c]) * double(y[i * b + c]);
      }
      return total;
    });
    norm2 += M.tied.template solve_all<B>(A, static_cast<const V*>(nullptr), x.data(), threads, [&](std::int64_t e, V z) {
      y[e] = z;
      return double(z) * double(z);
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

// x = M f over rows [begin, end), without the groups of tied rows
template <int B, class V, class X>
void apply_blocks(const Buffer<V>& M, const X* f, X* x, int b, std::int64_t begin, std::int64_t end) {
  const std::int64_t bb = std::int64_t(b) * b;
  for (std::int64_t i = begin; i < end; ++i)
    multiply_block<B, false>(M.data() + i * bb, f + i * b, x + i * b, b);
}

// y = x + M (f - A x); returns f . y where Dot asks for it.
template <int B, bool Dot, class V, class X, class I>
Sum<X> relax(const BlockMatrix<V, I>& A, const Inverses<V, I>& M, const X* f, const X* x, X* y, int threads) {
  const int b = B ? B : A.br;
  const std::int64_t bb = std::int64_t(b) * b;
  const Sum<X> rows = parallel_sum<Sum<X>>(A.rows, threads, [&](std::int64_t begin, std::int64_t end) {
    Sum<X> dot = 0.0;
    X r[capacity(B)];
    for (std::int64_t i = begin; i < end; ++i) {
      for (int c = 0; c < b; ++c) {
        r[c] = f[i * b + c];
        y[i * b + c] = x[i * b + c];
      }
      subtract_row<B>(A, i, x, r, b);
      multiply_block<B, true>(M.own.data() + i * bb, r, y + i * b, b);
      if constexpr (Dot)
        for (int c = 0; c < b; ++c) dot += wide(f[i * b + c]) * wide(y[i * b + c]);
    }
    return dot;
  });
  return rows + M.tied.template solve_all<B>(A, f, x, threads, [&](std::int64_t e, const X& z) {
    y[e] += z;
    return wide(f[e]) * wide(z);
  });
}

// One Chebyshev step: d = alpha d + beta D^-1 (f - A x), y = x + d.
template <int B, bool Dot, class V, class X, class I>
Sum<X> chebyshev_step(const BlockMatrix<V, I>& A, const Inverses<V, I>& M, const X* f, const X* x, X* y, X* d,
                      double alpha, double beta, int threads) {
  const int b = B ? B : A.br;
  const std::int64_t bb = std::int64_t(b) * b;
  const Sum<X> rows = parallel_sum<Sum<X>>(A.rows, threads, [&](std::int64_t begin, std::int64_t end) {
    Sum<X> dot = 0.0;
    X r[capacity(B)], z[capacity(B)];
    for (std::int64_t i = begin; i < end; ++i) {
      for (int c = 0; c < b; ++c) r[c] = f[i * b + c];
      subtract_row<B>(A, i, x, r, b);
      multiply_block<B, false>(M.own.data() + i * bb, r, z, b);
      for (int c = 0; c < b; ++c) {
        const X step = V(alpha) * d[i * b + c] + V(beta) * z[c];
        d[i * b + c] = step;
        y[i * b + c] = x[i * b + c] + step;
        if constexpr (Dot) dot += wide(f[i * b + c]) * wide(y[i * b + c]);
      }
    }
    return dot;
  });
  return rows + M.tied.template solve_all<B>(A, f, x, threads, [&](std::int64_t e, const X& z) {
    const X step = V(beta) * z;
    d[e] += step;
    y[e] += step;
    return wide(f[e]) * wide(step);
  });
}

// One Gauss-Seidel sweep in place; rows depend on the ones before them, so it is serial. A group of tied rows has its
// turn with the first of them.
template <int B, class V, class X, class I>
void gauss_seidel(const BlockMatrix<V, I>& A, const Inverses<V, I>& M, const X* f, X* x, bool forward) {
  const int b = B ? B : A.br;
  const Tied<V, I>& t = M.tied;
  std::int64_t g = forward ? 0 : t.count() - 1;
  const std::int64_t bb = std::int64_t(b) * b, n = A.rows;
  X r[capacity(B)];
  for (std::int64_t step = 0; step < n; ++step) {
    const std::int64_t i = forward ? step : n - 1 - step;
    for (int c = 0; c < b; ++c) r[c] = f[i * b + c];
    subtract_row<B>(A, i, x, r, b);
    multiply_block<B, true>(M.own.data() + i * bb, r, x + i * b, b);
    if (g < 0 || g >= t.count() || t.row[t.start[g]] != i) continue;
    t.template solve<B>(g, A, f, x, [&](std::int64_t e, const X& z) { x[e] += z; });
    g += forward ? 1 : -1;
  }
}

}  // namespace torch_sla::multigrid
