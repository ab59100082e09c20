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

// C = alpha A B or C += alpha A B for A [m, k], B [k, n], column-major; alpha is 1 or -1.
template <class T>
void multiply(const Blas<T>& blas, bool add, T alpha, Size m, Size n, Size k, const T* a, Size lda, const T* b,
              Size ldb, T* c, Size ldc) {
  if (m == 0 || n == 0) return;
  check_interrupt();
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
  constexpr Size block = 192;  // of A, kept in the second-level cache
  for (Size p = 0; p < k; p += block)
    for (Size i = 0; i < m; i += block)
      dense::kernels<T>().plain(std::min(block, m - i), n, std::min(block, k - p), a + p * lda + i, lda, b + p, ldb,
                                c + i, ldc);
  if (negate)
    for (Size j = 0; j < n; ++j)
      for (Size i = 0; i < m; ++i) c[j * ldc + i] = -c[j * ldc + i];
}

constexpr Size kTriangle = 48;  // blocks of triangles from here on are taken apart

// Inverse of a lower triangle, n x n, into `out`, by halves: [A 0; B C] has [A' 0; -C' B A', C'].
template <class T>
void invert_triangle(const Blas<T>& blas, Size n, const T* l, Size ld, bool unit, T* out, Size ldo) {
  if (n > kTriangle) {
    const Size h = n / 16 * 8, m = n - h;
    invert_triangle(blas, h, l, ld, unit, out, ldo);
    invert_triangle(blas, m, l + h * ld + h, ld, unit, out + h * ldo + h, ldo);
    const Buffer<T> product(m * h);
    multiply(blas, false, T(1), m, h, h, l + h, ld, out, ldo, product.data(), m);
    multiply(blas, false, T(-1), m, h, m, out + h * ldo + h, ldo, product.data(), m, out + h, ldo);
    for (Size j = h; j < n; ++j) std::fill(out + j * ldo, out + j * ldo + h, T(0));
    return;
  }
  for (Size j = 0; j < n; ++j) {
    T* x = out + j * ldo;
    std::fill(x, x + n, T(0));
    x[j] = T(1);
    for (Size p = j; p < n; ++p) {
      if (!unit) x[p] /= real_part(l[p * ld + p]);
      const T y = x[p];
      const T* column = l + p * ld;
      for (Size i = p + 1; i < n; ++i) x[i] -= product(column[i], y);
    }
  }
}

// Lower triangle of M^op X for M = [A 0; B C] and X = D^-1 M of the same shape; flipped is M^op.
// `width` are the pivots of D: halves do not cut a 2x2 one. Null: D is the identity.
template <class T>
void triangle_product(const Blas<T>& blas, Size n, const T* flipped, const T* x, Size ld, const unsigned char* width,
                      T* out, Size ldo) {
  if (n <= kTriangle) return multiply(blas, false, T(1), n, n, n, flipped, ld, x, ld, out, ldo);
  Size h = n / 16 * 8;
  if (width && width[h] == 0) ++h;
  const Size m = n - h;
  triangle_product(blas, h, flipped, x, ld, width, out, ldo);
  multiply(blas, true, T(1), h, h, m, flipped + h * ld, ld, x + h, ld, out, ldo);
  multiply(blas, false, T(1), m, h, m, flipped + h * ld + h, ld, x + h, ld, out + h, ldo);
  triangle_product(blas, m, flipped + h * ld + h, x + h * ld + h, ld, width ? width + h : nullptr, out + h * ldo + h, ldo);
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
  const bool strong = blas.complete() && columns >= kSmallColumns && below >= kSmallColumns;
  invert_triangle(blas, columns, panel, rows, f.pivoted(), inverse, columns);
  if (strong) {
    for (Size j = 0; j < columns; ++j)
      std::copy(panel + j * rows + columns, panel + (j + 1) * rows, y + j * below);
    call_trsm<T>(blas, 'R', 'L', 'N', f.pivoted() ? 'U' : 'N', static_cast<int>(below), static_cast<int>(columns),
                 panel, static_cast<int>(rows), y, static_cast<int>(below));
  } else if (below > 0) {
    multiply(blas, false, T(1), below, columns, columns, panel + columns, rows, inverse, columns, y, below);
  }
  transpose_block(f.conj(), columns, columns, inverse, columns, flipped, columns);
  if (f.pivoted()) divide_rows(f, begin, columns, columns, inverse);
  triangle_product(blas, columns, flipped, inverse, columns, f.pivoted() ? f.width.data() + begin : nullptr, z, rows);
  if (below > 0) {
    T* z21 = z + columns;
    multiply(blas, false, T(-1), below, columns, below, z + columns * rows + columns, rows, y, below, z21, rows);
    transpose_block(f.conj(), below, columns, y, below, yt, columns);
    for (Size j = 0; j < columns; j += 2 * kTriangle)
      multiply(blas, true, T(-1), columns - j, std::min(2 * kTriangle, columns - j), below, yt + j, columns,
               z21 + j * rows, rows, z + j * rows + j, rows);
  }
  for (Size j = 0; j < columns; ++j)
    for (Size i = j + 1; i < columns; ++i)
      z[i * rows + j] = f.conj() == Conj::yes ? conjugate(z[j * rows + i]) : z[j * rows + i];
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
  // A front's inverse is read by its children only, and depth first at most one front of each depth is
  // being read: two stacks by parity of depth, a front above its grandparent, hold all that lives.
  std::vector<std::int64_t> offset(s.supernodes(), 0);
  std::int64_t extent[2] = {0, 0};
  for (std::int32_t a = s.supernodes() - 1; a >= 0; --a) {
    const std::int32_t elder = s.parent[a] < 0 ? -1 : s.parent[s.parent[a]];
    if (elder >= 0) offset[a] = offset[elder] + static_cast<std::int64_t>(s.rows(elder)) * s.rows(elder);
    const std::int64_t end = offset[a] + static_cast<std::int64_t>(s.rows(a)) * s.rows(a);
    extent[s.side[a]] = std::max(extent[s.side[a]], end);
  }
  const Buffer<T> stack[2] = {Buffer<T>(extent[0]), Buffer<T>(extent[1])};
  std::vector<T> work;
  for (std::int32_t a = s.supernodes() - 1; a >= 0; --a) {
    const Size rows = s.rows(a), columns = s.columns(a), below = rows - columns;
    const std::int32_t p = s.parent[a];
    T* z = stack[s.side[a]].data() + offset[a];
    if (below > 0) {
      const T* from = stack[s.side[p]].data() + offset[p];
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
  }
}

}  // namespace torch_sla
