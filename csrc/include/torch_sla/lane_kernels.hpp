// Factorisation and substitution of many matrices on one pattern, a matrix in each lane of a register.
//
// Every number of the usual multifrontal scheme (cholesky_symbolic.hpp) becomes a register of numbers,
// one for each of `width` matrices: no shuffles, no remainders, and small fronts run at full speed.
// Pivots are those on the diagonal, for lanes cannot be permuted apart: A = L U with a unit L, and for
// symmetric matrices U = D L^T, which is not stored. Nothing bounds the growth; a solve proves the factors.
#pragma once

#include <algorithm>

#include "cholesky_front.hpp"
#include "cholesky_memory.hpp"
#include "cholesky_symbolic.hpp"

namespace torch_sla {
namespace lanes {

using dense::Size;

// Places of values: entry e of the analysed pattern is value `slot[e]` of A, or a zero where that is -1.
struct Places {
  const std::int32_t* slot;    // [s.nnz]
  const std::int32_t* mirror;  // [s.nnz] entry (j, i) for entry (i, j)
};

// What a group of matrices is factorised in and into. Panels are those of Symbolic, every entry `width`
// numbers long; the diagonal of `lower` holds the reciprocal pivots.
template <class T>
struct Group {
  const T* values;  // [values of A][width]
  T *lower, *upper;  // [s.panel_entries()][width]; for symmetric matrices `upper` has room for one panel
  T* stack[2];
  T** update_of;    // [supernodes]
  T* lowest;        // [width] smallest pivot
};

template <class T, int Bytes>
struct Pack {
#if defined(__GNUC__) || defined(__clang__)
  typedef T type __attribute__((vector_size(Bytes), aligned(alignof(T)), may_alias));
#endif
};
template <class T>
struct Pack<T, static_cast<int>(sizeof(T))> {
  typedef T type;
};

// Pointers to packs, moved by whole packs.
template <class T, int Bytes>
struct Packs {
  using Vec = typename Pack<T, Bytes>::type;
  static constexpr Size L = Bytes / static_cast<int>(sizeof(T));
  T* at;
  TORCH_SLA_INLINE Vec& operator[](Size i) const { return *reinterpret_cast<Vec*>(at + i * L); }
  TORCH_SLA_INLINE Packs operator+(Size i) const { return {at + i * L}; }
};

// C[i, j] -= sum_p A[i, p] B[j, p] on an M x N block in registers; Fresh: C is overwritten.
template <class T, int Bytes, int M, int N, bool Fresh>
TORCH_SLA_INLINE void tile(Size k, Packs<T, Bytes> a, Size lda, Packs<T, Bytes> b, Size ldb, Packs<T, Bytes> c,
                           Size ldc) {
  using Vec = typename Pack<T, Bytes>::type;
  Vec acc[N][M];
  for (int j = 0; j < N; ++j)
    for (int i = 0; i < M; ++i) acc[j][i] = Fresh ? Vec{} : c[j * ldc + i];
  for (Size p = 0; p < k; ++p) {
    Vec x[M];
    for (int i = 0; i < M; ++i) x[i] = a[p * lda + i];
    for (int j = 0; j < N; ++j) {
      const Vec y = b[p * ldb + j];
      for (int i = 0; i < M; ++i) acc[j][i] -= x[i] * y;
    }
  }
  for (int j = 0; j < N; ++j)
    for (int i = 0; i < M; ++i) c[j * ldc + i] = acc[j][i];
}

template <class T, int Bytes, int N, bool Fresh>
TORCH_SLA_INLINE void strip(Size m, Size k, Packs<T, Bytes> a, Size lda, Packs<T, Bytes> b, Size ldb,
                            Packs<T, Bytes> c, Size ldc) {
  Size i = 0;
  for (; i + 4 <= m; i += 4) tile<T, Bytes, 4, N, Fresh>(k, a + i, lda, b, ldb, c + i, ldc);
  switch (m - i) {
    case 3: tile<T, Bytes, 3, N, Fresh>(k, a + i, lda, b, ldb, c + i, ldc); break;
    case 2: tile<T, Bytes, 2, N, Fresh>(k, a + i, lda, b, ldb, c + i, ldc); break;
    case 1: tile<T, Bytes, 1, N, Fresh>(k, a + i, lda, b, ldb, c + i, ldc); break;
    default: break;
  }
}

// Columns of a block at a time: as many accumulators as there are registers.
template <int Bytes>
constexpr int kColumns = Bytes >= 64 ? 4 : 2;

// C[0:m, 0:n] (+)= -A B^T; with Lower only rows i >= j are promised.
template <class T, int Bytes, bool Fresh, bool Lower>
TORCH_SLA_INLINE void subtract(Size m, Size n, Size k, Packs<T, Bytes> a, Size lda, Packs<T, Bytes> b, Size ldb,
                               Packs<T, Bytes> c, Size ldc) {
  constexpr int N = kColumns<Bytes>;
  for (Size j = 0; j < n; j += N) {
    const Size top = Lower ? j : 0;
    const auto x = a + top, y = b + j, z = c + j * ldc + top;
    if (n - j >= N)
      strip<T, Bytes, N, Fresh>(m - top, k, x, lda, y, ldb, z, ldc);
    else if (n - j == 1)
      strip<T, Bytes, 1, Fresh>(m - top, k, x, lda, y, ldb, z, ldc);
    else if (n - j == 2)
      strip<T, Bytes, N >= 2 ? 2 : 1, Fresh>(m - top, k, x, lda, y, ldb, z, ldc);
    else
      strip<T, Bytes, N >= 3 ? 3 : 1, Fresh>(m - top, k, x, lda, y, ldb, z, ldc);
  }
}

// The same for what is in registers as for a single matrix, which has a BLAS.
template <class T, int Bytes, bool Fresh, bool Lower>
TORCH_SLA_INLINE void minus(Size m, Size n, Size k, Packs<T, Bytes> a, Size lda, Packs<T, Bytes> b, Size ldb,
                            Packs<T, Bytes> c, Size ldc) {
  if constexpr (Bytes == static_cast<int>(sizeof(T)))
    subtract_product<T>(borrowed_blas<T>(), Conj::no, Lower, Fresh, m, n, k, a.at, lda, b.at, ldb, c.at, ldc);
  else
    subtract<T, Bytes, Fresh, Lower>(m, n, k, a, lda, b, ldb, c, ldc);
}

// W columns of both panels from column 0 on, whose earlier columns have been subtracted: `y` holds
// columns of U^T, pivots on its diagonal, and `l` those of L. For symmetric matrices l is made from y.
template <class T, int Bytes, int W, bool Symmetric>
TORCH_SLA_INLINE void eliminate(Size rows, Packs<T, Bytes> l, Packs<T, Bytes> y, Size ld,
                                typename Pack<T, Bytes>::type& lowest) {
  using Vec = typename Pack<T, Bytes>::type;
  Vec inverse[W], down[W][W], across[W][W];  // of the block on the diagonal: Y[q2, q] and L[q2, q]
  for (int q = 0; q < W; ++q) {
    const Vec pivot = y[q * ld + q];
    lowest = pivot > lowest ? lowest : pivot;  // also where it is NaN
    inverse[q] = T(1) / pivot;
    l[q * ld + q] = inverse[q];
    for (int i = q + 1; i < W; ++i) {
      down[i][q] = y[q * ld + i];
      across[i][q] = (Symmetric ? down[i][q] : l[q * ld + i]) * inverse[q];
      l[q * ld + i] = across[i][q];
    }
    for (int j = q + 1; j < W; ++j)
      for (int i = j; i < W; ++i) {
        y[j * ld + i] -= down[i][q] * across[j][q];
        if (!Symmetric && i > j) l[j * ld + i] -= across[i][q] * down[j][q];
      }
  }
  for (Size i = W; i < rows; ++i) {
    Vec u[W], x[W];
    for (int q = 0; q < W; ++q) u[q] = y[q * ld + i];
    if (!Symmetric)
      for (int q = 0; q < W; ++q) x[q] = l[q * ld + i];
    for (int q = 0; q < W; ++q) {
      x[q] = (Symmetric ? u[q] : x[q]) * inverse[q];
      for (int j = q + 1; j < W; ++j) {
        u[j] -= u[q] * across[j][q];
        if (!Symmetric) x[j] -= x[q] * down[j][q];
      }
    }
    for (int q = 0; q < W; ++q) y[q * ld + i] = u[q], l[q * ld + i] = x[q];
  }
}

// Adds a child's update matrix into the parent's front; relative as in cholesky_symbolic.hpp.
template <class T, int Bytes, bool Symmetric>
TORCH_SLA_INLINE void extend(Size m, Packs<T, Bytes> u, const std::int32_t* relative, Size rows, Size columns,
                             Packs<T, Bytes> l, Packs<T, Bytes> y, Packs<T, Bytes> update) {
  const Size below = rows - columns;
  for (Size j = 0; j < m; ++j) {
    const Size c = relative[j];
    const auto from = u + j * m;
    if (!Symmetric)
      for (Size i = 0; i < j; ++i) {  // above the diagonal: a row of U, or of what is left
        const Size r = relative[i];
        if (r < columns)
          y[r * rows + c] += from[i];
        else
          update[(c - columns) * below + r - columns] += from[i];
      }
    if (c < columns) {
      y[c * rows + c] += from[j];
      const auto to = (Symmetric ? y : l) + c * rows;
      for (Size i = j + 1; i < m; ++i) to[relative[i]] += from[i];
    } else {
      const auto to = update + (c - columns) * below;
      for (Size i = j; i < m; ++i) to[relative[i] - columns] += from[i];
    }
  }
}

template <class T, int Bytes, bool Symmetric>
TORCH_SLA_INLINE void factorize_body(const Symbolic& s, const Places& places, const Group<T>& g) {
  using Vec = typename Pack<T, Bytes>::type;
  using P = Packs<T, Bytes>;
  constexpr int N = 4;
  const P values{const_cast<T*>(g.values)};
  Vec lowest = P{g.lowest}[0];
  for (std::int32_t a = 0; a < s.supernodes(); ++a) {
    const Size rows = s.rows(a), columns = s.columns(a), below = rows - columns;
    const P l = P{g.lower} + s.panel[a], y = Symmetric ? P{g.upper} : P{g.upper} + s.panel[a];
    const P update = P{g.stack[s.side[a]]} + s.stack_top[a];
    g.update_of[a] = update.at;
    for (Size e = 0; e < rows * columns; ++e) y[e] = Vec{};
    if (!Symmetric)
      for (Size e = 0; e < rows * columns; ++e) l[e] = Vec{};
    for (std::int64_t e = s.entry_start[a]; e < s.entry_start[a + 1]; ++e) {
      const std::int32_t source = s.entry_source[e];
      const Size target = s.entry_target[e];
      const std::int32_t above = places.slot[places.mirror[source]], under = places.slot[source];
      if (Symmetric) {
        y[target] = values[under];
      } else {
        if (above >= 0) y[target] = values[above];
        if (under >= 0) l[target] = values[under];
      }
    }
    const std::int32_t from = s.child_start[a], to = s.child_start[a + 1];
    if (from < to)
      for (Size j = 0; j < below; ++j)
        for (Size i = Symmetric ? j / N * N : 0; i < below; ++i) update[j * below + i] = Vec{};
    for (std::int32_t k = from; k < to; ++k) {
      const std::int32_t c = s.child[k];
      extend<T, Bytes, Symmetric>(s.below(c), P{g.update_of[c]}, s.relative.data() + s.row_start[c], rows, columns, l,
                                  y, update);
    }
    // Blocks of columns: what precedes a strip inside its block is subtracted strip by strip, a whole block from
    // all that follows at once.
    constexpr Size block = Bytes == static_cast<int>(sizeof(T)) ? 64 : 1 << 30;
    for (Size j = 0; j < columns; j += N) {
      const Size start = j / block * block, depth = j - start;
      const Size end = columns - start < block ? columns : start + block;
      const Size width = end - j < N ? end - j : N;
      const P lj = l + j * rows + j, yj = y + j * rows + j;
      const P lp = l + start * rows + j, yp = y + start * rows + j;
      if (depth > 0) {
        minus<T, Bytes, false, false>(rows - j, width, depth, Symmetric ? lp : yp, rows, Symmetric ? yp : lp, rows, yj,
                                      rows);
        if (!Symmetric) minus<T, Bytes, false, false>(rows - j, width, depth, lp, rows, yp, rows, lj, rows);
      }
      switch (width) {
        case 1: eliminate<T, Bytes, 1, Symmetric>(rows - j, lj, yj, rows, lowest); break;
        case 2: eliminate<T, Bytes, 2, Symmetric>(rows - j, lj, yj, rows, lowest); break;
        case 3: eliminate<T, Bytes, 3, Symmetric>(rows - j, lj, yj, rows, lowest); break;
        default: eliminate<T, Bytes, 4, Symmetric>(rows - j, lj, yj, rows, lowest); break;
      }
      if (j + width < end || end == columns) continue;
      const P ln = l + start * rows + end, yn = y + start * rows + end, corner = y + end * rows + end;
      minus<T, Bytes, false, false>(rows - end, columns - end, end - start, Symmetric ? ln : yn, rows,
                                    Symmetric ? yn : ln, rows, corner, rows);
      if (!Symmetric)
        minus<T, Bytes, false, false>(rows - end, columns - end, end - start, ln, rows, yn, rows,
                                      l + end * rows + end, rows);
    }
    if (from < to)
      minus<T, Bytes, false, Symmetric>(below, below, columns, l + columns, rows, y + columns, rows, update, below);
    else
      minus<T, Bytes, true, Symmetric>(below, below, columns, l + columns, rows, y + columns, rows, update, below);
  }
  P{g.lowest}[0] = lowest;
}

// Where a reciprocal pivot is multiplied in.
enum class Pivot { no, before, after };

// C right-hand sides [n][C] of packs through the columns of one triangle, then of another. `inverse` is
// the panel that has the reciprocal pivots.
template <class T, int Bytes, int C, int W>
TORCH_SLA_INLINE void forward(const Symbolic& s, std::int32_t a, Size j, Packs<T, Bytes> panel,
                              Packs<T, Bytes> inverse, bool scaled, Packs<T, Bytes> work) {
  using Vec = typename Pack<T, Bytes>::type;
  const Size rows = s.rows(a), columns = s.columns(a), first = s.first[a];
  Vec t[W][C];
  for (int q = 0; q < W; ++q)
    for (int k = 0; k < C; ++k) t[q][k] = work[(first + j + q) * C + k];
  for (int q = 0; q < W; ++q) {
    if (scaled)
      for (int k = 0; k < C; ++k) t[q][k] *= inverse[(j + q) * rows + j + q];
    for (int i = q + 1; i < W; ++i) {
      const Vec x = panel[(j + q) * rows + j + i];
      for (int k = 0; k < C; ++k) t[i][k] -= x * t[q][k];
    }
  }
  for (int q = 0; q < W; ++q)
    for (int k = 0; k < C; ++k) work[(first + j + q) * C + k] = t[q][k];
  const std::int32_t* row = s.row.data() + s.row_start[a] - columns;
  for (Size i = j + W; i < rows; ++i) {
    const auto to = work + (i < columns ? first + i : row[i]) * C;
    for (int k = 0; k < C; ++k) {
      Vec sum = to[k];
      for (int q = 0; q < W; ++q) sum -= panel[(j + q) * rows + i] * t[q][k];
      to[k] = sum;
    }
  }
}

template <class T, int Bytes, int C, int W>
TORCH_SLA_INLINE void backward(const Symbolic& s, std::int32_t a, Size j, Packs<T, Bytes> panel,
                               Packs<T, Bytes> inverse, Pivot scaled, Packs<T, Bytes> work) {
  using Vec = typename Pack<T, Bytes>::type;
  const Size rows = s.rows(a), columns = s.columns(a), first = s.first[a];
  Vec t[W][C];
  for (int q = 0; q < W; ++q)
    for (int k = 0; k < C; ++k) {
      t[q][k] = work[(first + j + q) * C + k];
      if (scaled == Pivot::before) t[q][k] *= inverse[(j + q) * rows + j + q];
    }
  const std::int32_t* row = s.row.data() + s.row_start[a] - columns;
  for (Size i = j + W; i < rows; ++i) {
    const auto from = work + (i < columns ? first + i : row[i]) * C;
    for (int q = 0; q < W; ++q) {
      const Vec x = panel[(j + q) * rows + i];
      for (int k = 0; k < C; ++k) t[q][k] -= x * from[k];
    }
  }
  for (int q = W - 1; q >= 0; --q) {
    for (int i = q + 1; i < W; ++i) {
      const Vec x = panel[(j + q) * rows + j + i];
      for (int k = 0; k < C; ++k) t[q][k] -= x * t[i][k];
    }
    if (scaled == Pivot::after)
      for (int k = 0; k < C; ++k) t[q][k] *= inverse[(j + q) * rows + j + q];
  }
  for (int q = 0; q < W; ++q)
    for (int k = 0; k < C; ++k) work[(first + j + q) * C + k] = t[q][k];
}

// op(A) x = b in place for `work` [n][C] in the order of elimination; `upper` is null where A is symmetric.
template <class T, int Bytes, int C>
TORCH_SLA_INLINE void solve_body(const Symbolic& s, const T* lower, const T* upper, bool transposed, T* b) {
  using P = Packs<T, Bytes>;
  const P l{const_cast<T*>(lower)}, u{const_cast<T*>(upper)}, work{b};
  const P &down = transposed && upper ? u : l, &up = upper && !transposed ? u : l;
  const bool scaled = transposed && upper;
  const Pivot pivot = !upper ? Pivot::before : transposed ? Pivot::no : Pivot::after;
  for (std::int32_t a = 0; a < s.supernodes(); ++a) {
    const P panel = down + s.panel[a], inverse = l + s.panel[a];
    Size j = 0;
    for (; j + 4 <= s.columns(a); j += 4) forward<T, Bytes, C, 4>(s, a, j, panel, inverse, scaled, work);
    switch (s.columns(a) - j) {
      case 3: forward<T, Bytes, C, 3>(s, a, j, panel, inverse, scaled, work); break;
      case 2: forward<T, Bytes, C, 2>(s, a, j, panel, inverse, scaled, work); break;
      case 1: forward<T, Bytes, C, 1>(s, a, j, panel, inverse, scaled, work); break;
      default: break;
    }
  }
  for (std::int32_t a = s.supernodes() - 1; a >= 0; --a) {
    const P panel = up + s.panel[a], inverse = l + s.panel[a];
    Size j = s.columns(a) / 4 * 4;
    switch (s.columns(a) - j) {
      case 3: backward<T, Bytes, C, 3>(s, a, j, panel, inverse, pivot, work); break;
      case 2: backward<T, Bytes, C, 2>(s, a, j, panel, inverse, pivot, work); break;
      case 1: backward<T, Bytes, C, 1>(s, a, j, panel, inverse, pivot, work); break;
      default: break;
    }
    for (j -= 4; j >= 0; j -= 4) backward<T, Bytes, C, 4>(s, a, j, panel, inverse, pivot, work);
  }
}

// Largest |x| and largest backward error |b - A x| / (|A| |x| + |b|) in the maximum norm, for `x` and `b`
// in the order of A, [n] of packs; not finite where x is not.
template <class T, int Bytes>
TORCH_SLA_INLINE void judge_body(std::int64_t n, const std::int32_t* start, const std::int32_t* column, const T* values,
                                 const T* x, const T* b, T* growth, T* error) {
  using Vec = typename Pack<T, Bytes>::type;
  using P = Packs<T, Bytes>;
  const P a{const_cast<T*>(values)}, y{const_cast<T*>(x)}, given{const_cast<T*>(b)};
  Vec norm{}, size{}, left{}, load{}, spoilt{};
  for (std::int64_t i = 0; i < n; ++i) {
    Vec r = given[i], sum{};
    const Vec z = y[i] < T(0) ? -y[i] : y[i], c = r < T(0) ? -r : r;
    for (std::int32_t e = start[i]; e < start[i + 1]; ++e) {
      const Vec v = a[e];
      r -= v * y[column[e]];
      sum += v < T(0) ? -v : v;
    }
    r = r < T(0) ? -r : r;
    norm = sum > norm ? sum : norm;
    size = z > size ? z : size;
    left = r > left ? r : left;
    load = c > load ? c : load;
    spoilt += T(0) * z;
  }
  P{growth}[0] = size + spoilt;
  P{error}[0] = left / (norm * size + load) + spoilt;
}

// Measures of interleaved values: the largest sum of |a| of a row and of a column, and how far the largest
// entries of rows, and of columns, lie apart (0 where one has none): `out` [4] of packs. room [2 n] of packs.
template <class T, int Bytes>
TORCH_SLA_INLINE void measure_body(std::int64_t n, const std::int32_t* start, const std::int32_t* column,
                                   const T* values, T* room, T* out) {
  using Vec = typename Pack<T, Bytes>::type;
  using P = Packs<T, Bytes>;
  const P a{const_cast<T*>(values)}, sums{room}, tops = sums + n, result{out};
  const Vec huge = Vec{} + std::numeric_limits<T>::max();
  for (std::int64_t j = 0; j < 2 * n; ++j) sums[j] = Vec{};
  Vec rows{}, columns{}, high{}, low = huge;
  for (std::int64_t i = 0; i < n; ++i) {
    Vec sum{}, top{};
    for (std::int32_t e = start[i]; e < start[i + 1]; ++e) {
      const Vec v = a[e], z = v < T(0) ? -v : v;
      const Vec seen = tops[column[e]];
      sum += z;
      top = z > top ? z : top;
      sums[column[e]] += z;
      tops[column[e]] = z > seen ? z : seen;
    }
    rows = sum > rows ? sum : rows;
    high = top > high ? top : high;
    low = top < low ? top : low;
  }
  const Vec none{};
  result[2] = low > none ? high / low : none;
  high = none, low = huge;
  for (std::int64_t j = 0; j < n; ++j) {
    const Vec sum = sums[j], top = tops[j];
    columns = sum > columns ? sum : columns;
    high = top > high ? top : high;
    low = top < low ? top : low;
  }
  result[0] = rows;
  result[1] = columns;
  result[3] = low > none ? high / low : none;
}

// The same functions for one instruction set; `width` matrices at a time.
template <class T>
struct Kernels {
  int width;
  void (*symmetric)(const Symbolic&, const Places&, const Group<T>&);
  void (*general)(const Symbolic&, const Places&, const Group<T>&);
  void (*solve_one)(const Symbolic&, const T*, const T*, bool, T*);
  void (*solve_four)(const Symbolic&, const T*, const T*, bool, T*);
  void (*judge)(std::int64_t, const std::int32_t*, const std::int32_t*, const T*, const T*, const T*, T*, T*);
  void (*measure)(std::int64_t, const std::int32_t*, const std::int32_t*, const T*, T*, T*);
};

#define TORCH_SLA_LANES(NAME, ATTRIBUTE, BYTES)                                                                 \
  template <class T>                                                                                            \
  ATTRIBUTE void symmetric_##NAME(const Symbolic& s, const Places& p, const Group<T>& g) {                      \
    factorize_body<T, BYTES, true>(s, p, g);                                                                    \
  }                                                                                                             \
  template <class T>                                                                                            \
  ATTRIBUTE void general_##NAME(const Symbolic& s, const Places& p, const Group<T>& g) {                        \
    factorize_body<T, BYTES, false>(s, p, g);                                                                   \
  }                                                                                                             \
  template <class T>                                                                                            \
  ATTRIBUTE void solve_one_##NAME(const Symbolic& s, const T* l, const T* u, bool t, T* b) {                    \
    solve_body<T, BYTES, 1>(s, l, u, t, b);                                                                     \
  }                                                                                                             \
  template <class T>                                                                                            \
  ATTRIBUTE void solve_four_##NAME(const Symbolic& s, const T* l, const T* u, bool t, T* b) {                   \
    solve_body<T, BYTES, 4>(s, l, u, t, b);                                                                     \
  }                                                                                                             \
  template <class T>                                                                                            \
  ATTRIBUTE void judge_##NAME(std::int64_t n, const std::int32_t* start, const std::int32_t* column, const T* v, \
                              const T* x, const T* b, T* growth, T* error) {                                    \
    judge_body<T, BYTES>(n, start, column, v, x, b, growth, error);                                             \
  }                                                                                                             \
  template <class T>                                                                                            \
  ATTRIBUTE void measure_##NAME(std::int64_t n, const std::int32_t* start, const std::int32_t* column, const T* v, \
                                T* room, T* out) {                                                              \
    measure_body<T, BYTES>(n, start, column, v, room, out);                                                     \
  }                                                                                                             \
  template <class T>                                                                                            \
  Kernels<T> table_##NAME() {                                                                                   \
    return {static_cast<int>((BYTES) / sizeof(T)), symmetric_##NAME<T>, general_##NAME<T>, solve_one_##NAME<T>,  \
            solve_four_##NAME<T>, judge_##NAME<T>, measure_##NAME<T>};                                                             \
  }

TORCH_SLA_LANES(plain, , static_cast<int>(sizeof(T)))
#if defined(__GNUC__) || defined(__clang__)
TORCH_SLA_LANES(vector16, , 16)
#endif
#ifdef TORCH_SLA_X86_DISPATCH
TORCH_SLA_LANES(avx2, TORCH_SLA_AVX2, 32)
TORCH_SLA_LANES(avx512, TORCH_SLA_AVX512, 64)
TORCH_SLA_LANES(plain_avx2, TORCH_SLA_AVX2, static_cast<int>(sizeof(T)))
TORCH_SLA_LANES(plain_avx512, TORCH_SLA_AVX512, static_cast<int>(sizeof(T)))
#endif
#undef TORCH_SLA_LANES

// For a single matrix a lane is a number; for more, what registers hold.
template <class T>
const Kernels<T>& kernels(bool single) {
#ifdef TORCH_SLA_X86_DISPATCH
  if (dense::instruction_set() == 2) {
    static const Kernels<T> alone = table_plain_avx512<T>(), many = table_avx512<T>();
    return single ? alone : many;
  }
  if (dense::instruction_set() == 1) {
    static const Kernels<T> alone = table_plain_avx2<T>(), many = table_avx2<T>();
    return single ? alone : many;
  }
#endif
  static const Kernels<T> alone = table_plain<T>();
#if defined(__GNUC__) || defined(__clang__)
  static const Kernels<T> many = table_vector16<T>();
  return single ? alone : many;
#else
  return alone;
#endif
}

}  // namespace lanes
}  // namespace torch_sla
