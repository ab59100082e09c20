// Factorisation of many matrices on one pattern, a matrix in each lane of a register.
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
#include "lane_measures.hpp"
#include "lane_places.hpp"
#include "lane_products.hpp"
#include "lane_substitution.hpp"

namespace torch_sla {
namespace lanes {

using dense::Size;

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
  void (*residual_one)(std::int64_t, const std::int32_t*, const std::int32_t*, const T*, bool, const T*, const T*, T*,
                       T*);
  void (*residual_four)(std::int64_t, const std::int32_t*, const std::int32_t*, const T*, bool, const T*, const T*, T*,
                        T*);
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
  ATTRIBUTE void residual_one_##NAME(std::int64_t n, const std::int32_t* start, const std::int32_t* column,     \
                                     const T* v, bool t, const T* x, const T* b, T* room, T* out) {             \
    residual_body<T, BYTES, 1>(n, start, column, v, t, x, b, room, out);                                        \
  }                                                                                                             \
  template <class T>                                                                                            \
  ATTRIBUTE void residual_four_##NAME(std::int64_t n, const std::int32_t* start, const std::int32_t* column,    \
                                      const T* v, bool t, const T* x, const T* b, T* room, T* out) {            \
    residual_body<T, BYTES, 4>(n, start, column, v, t, x, b, room, out);                                        \
  }                                                                                                             \
  template <class T>                                                                                            \
  Kernels<T> table_##NAME() {                                                                                   \
    return {static_cast<int>((BYTES) / sizeof(T)), symmetric_##NAME<T>, general_##NAME<T>, solve_one_##NAME<T>,  \
            solve_four_##NAME<T>, judge_##NAME<T>, measure_##NAME<T>, residual_one_##NAME<T>,                    \
            residual_four_##NAME<T>};                                                                           \
  }

TORCH_SLA_LANES(plain, , static_cast<int>(sizeof(T)))
#ifdef TORCH_SLA_VECTORS
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
#ifdef TORCH_SLA_VECTORS
  static const Kernels<T> many = table_vector16<T>();
  return single ? alone : many;
#else
  return alone;
#endif
}

}  // namespace lanes
}  // namespace torch_sla
