// Dense LU of a front: rows are interchanged among its own rows only, the others can wait for their pivots.
#pragma once

#include "cholesky_front.hpp"

namespace torch_sla {

constexpr Size kLuColumns = 8;  // columns eliminated one by one before the rest of the front sees them

namespace detail {

// Eliminates `width` columns of a front that begin at its column j, all in a [.., ld], with the largest entry among
// rows j .. own-1 as the pivot unless the one on the diagonal is a tenth of it. Returns false where none is usable.
template <class T>
TORCH_SLA_INLINE bool eliminate_columns(Size j, Size width, Size own, Size rows, T* a, Size ld, std::int32_t* swapped) {
  for (Size q = j; q < j + width; ++q) {
    T* column = a + q * ld;
    Size best = q;
    for (Size i = q + 1; i < own; ++i)
      if (magnitude(column[i]) > magnitude(column[best])) best = i;
    if (10 * magnitude(column[q]) >= magnitude(column[best])) best = q;
    swapped[q] = static_cast<std::int32_t>(best);
    if (best != q)
      for (Size c = j; c < j + width; ++c) std::swap(a[c * ld + q], a[c * ld + best]);
    if (!(magnitude(column[q]) > 0) || !is_finite(column[q])) return false;
    const T inverse = T(1) / column[q];
    for (Size i = q + 1; i < rows; ++i) column[i] = product(column[i], inverse);
    for (Size c = q + 1; c < j + width; ++c) {
      T* to = a + c * ld;
      const T u = to[q];
      for (Size i = q + 1; i < rows; ++i) to[i] -= product(column[i], u);
    }
  }
  return true;
}

#define TORCH_SLA_LU_SET(NAME, ATTRIBUTE)                                                                            \
  template <class T>                                                                                                 \
  ATTRIBUTE bool eliminate_##NAME(Size j, Size width, Size own, Size rows, T* a, Size ld, std::int32_t* swapped) {   \
    return eliminate_columns<T>(j, width, own, rows, a, ld, swapped);                                                \
  }
TORCH_SLA_LU_SET(base, )
#ifdef TORCH_SLA_X86_DISPATCH
TORCH_SLA_LU_SET(avx2, TORCH_SLA_AVX2)
#endif
#undef TORCH_SLA_LU_SET

template <class T>
auto* eliminate_kernel() {
#ifdef TORCH_SLA_X86_DISPATCH
  if (dense::instruction_set() >= 1) return &eliminate_avx2<T>;
#endif
  return &eliminate_base<T>;
}

}  // namespace detail

// X := X L^-T for X [m, n] and the unit lower triangle L [n, n].
template <class T>
void solve_unit(const Blas<T>& blas, Size m, Size n, const T* l, Size ldl, T* x, Size ldx) {
  if (n > kLuColumns) {
    const Size half = std::max<Size>(kLuColumns, n / 2 / kLuColumns * kLuColumns);
    solve_unit(blas, m, half, l, ldl, x, ldx);
    subtract_product(blas, Conj::no, false, false, m, n - half, half, x, ldx, l + half, ldl, x + half * ldx, ldx);
    solve_unit(blas, m, n - half, l + half * ldl + half, ldl, x + half * ldx, ldx);
    return;
  }
  for (Size q = 0; q < n; ++q)
    for (Size c = q + 1; c < n; ++c) {
      const T factor = l[q * ldl + c];
      for (Size i = 0; i < m; ++i) x[c * ldx + i] -= product(x[q * ldx + i], factor);
    }
}

// A front of `rows` rows, `columns` of them its own: `a` [rows, columns] becomes L below the diagonal and U above it,
// `across` [rows - columns, columns] the rest of U, transposed. `swapped` tells which own rows changed places.
template <class T>
class LuFront {
 public:
  LuFront(const Blas<T>& blas, Size rows, Size columns, T* a, T* across, std::int32_t* swapped, int threads)
      : blas_(blas), rows_(rows), columns_(columns), a_(a), across_(across), swapped_(swapped), threads_(threads) {}

  bool factorize() {
    if (columns_ > kLuColumns) {
      const Size half = columns_ / 2 + kLuColumns;
      room_.resize(static_cast<std::size_t>(half * half));
    }
    if (!columns(0, columns_)) return false;
    const Size below = rows_ - columns_;
    if (below == 0) return true;
    for (Size q = 0; q < columns_; ++q)
      if (swapped_[q] != q)
        std::swap_ranges(across_ + q * below, across_ + (q + 1) * below, across_ + swapped_[q] * below);
    tiles(below, columns_ * columns_, [&](Size begin, Size end) {
      solve_unit(blas_, end - begin, columns_, a_, rows_, across_ + begin, below);
    });
    return true;
  }

  // What the front sends on: update -= L U of the rows and columns that are not its own.
  void subtract(T* update, bool fresh) const {
    const Size below = rows_ - columns_;
    tiles(below, below * columns_, [&](Size begin, Size end) {
      subtract_product(blas_, Conj::no, false, fresh, below, end - begin, columns_, a_ + columns_, rows_,
                       across_ + begin, below, update + begin * below, below);
    });
  }

 private:
  // f(begin, end) over tiles of [0, m), by threads where `each` products per row are worth it.
  template <class F>
  void tiles(Size m, Size each, const F& f) const {
    const Size blocks = (m + kTile - 1) / kTile;
    const bool many = threads_ > 1 && static_cast<double>(m) * static_cast<double>(each) > kParallelFlops;
    parallel_for(blocks, many ? threads_ : 1, [&](Size begin, Size end, int) {
      for (Size q = begin; q < end; ++q) f(q * kTile, std::min(m, (q + 1) * kTile));
    });
  }

  void interchange(Size from, Size to, Size first, Size last) {
    for (Size c = first; c < last; ++c) {
      T* column = a_ + c * rows_;
      for (Size q = from; q < to; ++q) std::swap(column[q], column[swapped_[q]]);
    }
  }

  // Columns j .. j + width - 1, from which all earlier ones have been subtracted; halves, so that products are large.
  bool columns(Size j, Size width) {
    if (width <= kLuColumns) return detail::eliminate_kernel<T>()(j, width, columns_, rows_, a_, rows_, swapped_);
    const Size half = std::max<Size>(kLuColumns, width / 2 / kLuColumns * kLuColumns), next = j + half;
    const Size rest = width - half;
    if (!columns(j, half)) return false;
    interchange(j, next, next, j + width);
    for (Size c = 0; c < rest; ++c)
      for (Size r = 0; r < half; ++r) room_[r * rest + c] = a_[(next + c) * rows_ + j + r];
    solve_unit(blas_, rest, half, a_ + j * rows_ + j, rows_, room_.data(), rest);
    for (Size c = 0; c < rest; ++c)
      for (Size r = 0; r < half; ++r) a_[(next + c) * rows_ + j + r] = room_[r * rest + c];
    tiles(rows_ - next, rest * half, [&](Size begin, Size end) {
      subtract_product(blas_, Conj::no, false, false, end - begin, rest, half, a_ + j * rows_ + next + begin, rows_,
                       room_.data(), rest, a_ + next * rows_ + next + begin, rows_);
    });
    if (!columns(next, rest)) return false;
    interchange(next, j + width, j, next);
    return true;
  }

  const Blas<T>& blas_;
  Size rows_, columns_;
  T *a_, *across_;
  std::int32_t* swapped_;
  int threads_;
  std::vector<T> room_;
};

}  // namespace torch_sla
