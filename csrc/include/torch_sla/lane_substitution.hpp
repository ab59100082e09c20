// Substitution with the factors of many matrices, a matrix in each lane of a register.
#pragma once

#include <algorithm>

#include "cholesky_symbolic.hpp"
#include "lane_products.hpp"

namespace torch_sla {
namespace lanes {

using dense::Size;

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

// What a sweep comes to in a while is asked for now, as much as front `a` is long. Panels are larger than the caches.
template <class T, int Bytes>
TORCH_SLA_INLINE void fetch_ahead(const Symbolic& s, std::int32_t a, Packs<T, Bytes> panels, bool up) {
#ifdef TORCH_SLA_VECTORS
  constexpr Size line = Bytes < 64 ? 64 / Bytes : 1, ahead = 128 * line;
  const Size from = s.panel[a] + (up ? ahead : -ahead), to = std::min(from + s.panel[a + 1] - s.panel[a], s.panel_entries());
  for (Size e = std::max<Size>(from, 0); e < to; e += line) __builtin_prefetch(panels.at + e * Packs<T, Bytes>::L);
#endif
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
    fetch_ahead<T, Bytes>(s, a, down, true);
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
    if (upper) fetch_ahead<T, Bytes>(s, a, up, false);
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

}  // namespace lanes
}  // namespace torch_sla
