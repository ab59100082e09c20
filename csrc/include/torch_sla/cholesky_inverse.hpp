// Selected inverse: the entries of A^-1 on the pattern of A, exactly, by going down the assembly tree
// (K. Takahashi, J. Fagan, M.-S. Chen, PICA 1973; by supernodes: L. Lin, C. Yang, J. C. Meza, J. Lu,
// L. Ying, W. E, ACM Trans. Math. Softw. 37, 40, 2011).
//
// For a front with L = [L11; L21] and Z22 the inverse on its other rows, known from the parent:
//   Y = L21 L11^-1,  Z21 = -Z22 Y,  Z11 = (L11 D L11^op)^-1 - Y^op Z21.
#pragma once

#include "cholesky_indefinite.hpp"

namespace torch_sla {
namespace detail {

// Inverse of a lower triangle, n x n, into `out` with leading dimension n; zeros above.
template <class T>
void invert_triangle(const Blas<T>& blas, Size n, const T* l, Size ld, bool unit, T* out) {
  std::fill(out, out + n * n, T(0));
  for (Size j = 0; j < n; ++j) out[j * n + j] = T(1);
  if (blas.complete() && n >= kSmallColumns) {
    call_trsm<T>(blas, 'L', 'L', 'N', unit ? 'U' : 'N', static_cast<int>(n), static_cast<int>(n), l,
                 static_cast<int>(ld), out, static_cast<int>(n));
    return;
  }
  for (Size j = 0; j < n; ++j) {
    T* x = out + j * n;
    for (Size p = j; p < n; ++p) {
      if (!unit) x[p] /= real_part(l[p * ld + p]);
      const T y = x[p];
      const T* column = l + p * ld;
      for (Size i = p + 1; i < n; ++i) x[i] -= product(column[i], y);
    }
  }
}

// C = alpha A B or C += alpha A B for A [m, k], B [k, n], column-major; alpha is 1 or -1.
template <class T>
void multiply(const Blas<T>& blas, bool add, T alpha, Size m, Size n, Size k, const T* a, Size lda, const T* b,
              Size ldb, T* c, Size ldc) {
  if (m == 0 || n == 0) return;
  if (blas.complete() && m * n * k >= 16 * 16 * 16) {
    call_gemm<T>(blas, 'N', 'N', static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), alpha, a,
                 static_cast<int>(lda), b, static_cast<int>(ldb), T(add ? 1 : 0), c, static_cast<int>(ldc));
    return;
  }
  const bool negate = alpha == T(1);  // the kernels subtract
  if (!add)
    for (Size j = 0; j < n; ++j) std::fill(c + j * ldc, c + j * ldc + m, T(0));
  else if (negate)
    for (Size j = 0; j < n; ++j)
      for (Size i = 0; i < m; ++i) c[j * ldc + i] = -c[j * ldc + i];
  dense::kernels<T>().plain(m, n, k, a, lda, b, ldb, c, ldc);
  if (negate)
    for (Size j = 0; j < n; ++j)
      for (Size i = 0; i < m; ++i) c[j * ldc + i] = -c[j * ldc + i];
}

// D^-1 X for X [n, columns], rows by the pivots from `begin` on.
template <class T>
void divide_rows(const Factor<T>& f, Size begin, Size n, Size columns, T* x) {
  for (Size j = 0; j < n; ++j) {
    if (f.width[begin + j] == 1) {
      for (Size c = 0; c < columns; ++c) x[c * n + j] /= f.diagonal[begin + j];
    } else if (f.width[begin + j] == 2) {
      const T lower = f.coupling[begin + j], upper = f.conj() == Conj::yes ? conjugate(lower) : lower;
      const T p = f.diagonal[begin + j] / lower, q = f.diagonal[begin + j + 1] / upper;
      const T det = product(p, q) - T(1);
      for (Size c = 0; c < columns; ++c) {
        const T u = x[c * n + j], v = x[c * n + j + 1];
        x[c * n + j] = (product(q, u) - v) / (det * lower);
        x[c * n + j + 1] = (product(p, v) - u) / (det * upper);
      }
    }
  }
}

template <class T>
void transpose_block(Conj conj, Size m, Size n, const T* a, Size lda, T* out, Size ldo) {
  for (Size j = 0; j < n; ++j)
    for (Size i = 0; i < m; ++i) out[i * ldo + j] = conj == Conj::yes ? conjugate(a[j * lda + i]) : a[j * lda + i];
}

// Z of one front, rows x rows, both triangles; the trailing block is filled when it is called.
template <class T>
void invert_front(const Factor<T>& f, std::int32_t a, T* z, std::vector<T>& work, const Blas<T>& blas) {
  const Symbolic& s = *f.symbolic;
  const Size rows = s.rows(a), columns = s.columns(a), below = rows - columns, begin = s.first[a];
  const T* panel = f.panels.data() + s.panel[a];
  work.resize(static_cast<std::size_t>(2 * columns * columns + 2 * below * columns));
  T *inverse = work.data(), *flipped = inverse + columns * columns, *y = flipped + columns * columns;
  T* yt = y + below * columns;
  invert_triangle(blas, columns, panel, rows, f.pivoted(), inverse);
  if (below > 0) multiply(blas, false, T(1), below, columns, columns, panel + columns, rows, inverse, columns, y, below);
  transpose_block(f.conj(), columns, columns, inverse, columns, flipped, columns);
  if (f.pivoted()) divide_rows(f, begin, columns, columns, inverse);
  multiply(blas, false, T(1), columns, columns, columns, flipped, columns, inverse, columns, z, rows);
  if (below > 0) {
    T* z21 = z + columns;
    multiply(blas, false, T(-1), below, columns, below, z + columns * rows + columns, rows, y, below, z21, rows);
    transpose_block(f.conj(), below, columns, y, below, yt, columns);
    multiply(blas, true, T(-1), columns, columns, below, yt, columns, z21, rows, z, rows);
  }
  if (f.pivoted()) {  // local columns back to their own order
    const std::int32_t* pivot = f.pivot.data() + begin;
    std::vector<T> kept(static_cast<std::size_t>(rows * columns));
    for (Size j = 0; j < columns; ++j) {
      T* to = kept.data() + pivot[j] * rows;
      for (Size i = 0; i < columns; ++i) to[pivot[i]] = z[j * rows + i];
      std::copy(z + j * rows + columns, z + (j + 1) * rows, to + columns);
    }
    std::copy(kept.begin(), kept.end(), z);
  }
  transpose_block(f.conj(), below, columns, z + columns, rows, z + columns * rows, rows);
}

}  // namespace detail

// Entries of A^-1 where the lower triangle of P A P^T has entries: out[e] = (A^-1)_ij for those entries
// e = (i, j) of A's pattern; filled[e] tells which. The others follow by symmetry.
template <class T>
void selected_inverse(const Factor<T>& f, T* out, unsigned char* filled, const Blas<T>& blas) {
  const Symbolic& s = *f.symbolic;
  std::fill(out, out + s.nnz, T(0));
  std::fill(filled, filled + s.nnz, static_cast<unsigned char>(0));
  std::vector<Buffer<T>> fronts(s.supernodes());
  std::vector<T> work;
  for (std::int32_t a = s.supernodes() - 1; a >= 0; --a) {
    const Size rows = s.rows(a), columns = s.columns(a), below = rows - columns;
    const std::int32_t p = s.parent[a];
    fronts[a] = Buffer<T>(rows * rows);
    T* z = fronts[a].data();
    if (below > 0) {
      const T* from = fronts[p].data();
      const Size ld = s.rows(p);
      const std::int32_t* place = s.relative.data() + s.row_start[a];
      for (Size j = 0; j < below; ++j) {
        T* to = z + (columns + j) * rows + columns;
        const T* column = from + place[j] * ld;
        for (Size i = 0; i < below; ++i) to[i] = column[place[i]];
      }
    }
    detail::invert_front(f, a, z, work, blas);
    for (std::int64_t e = s.entry_start[a]; e < s.entry_start[a + 1]; ++e) {
      const std::int64_t target = s.entry_target[e], source = s.entry_source[e];
      T value = z[target];  // the panel's places are the front's first columns
      if (!f.scale.empty()) {
        const Size i = target % rows, j = target / rows;
        const std::int32_t gi = i < columns ? s.first[a] + static_cast<std::int32_t>(i)
                                            : s.row[s.row_start[a] + i - columns];
        value *= f.scale[s.order[gi]] * f.scale[s.order[s.first[a] + j]];
      }
      out[source] = value;
      filled[source] = 1;
    }
    if (s.child_start[a] == s.child_start[a + 1]) fronts[a] = Buffer<T>();
    if (p >= 0 && s.child[s.child_start[p]] == a) fronts[p] = Buffer<T>();  // its last reader
  }
}

}  // namespace torch_sla
