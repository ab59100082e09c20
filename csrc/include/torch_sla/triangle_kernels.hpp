// One right-hand side and the trapezoid of one front: its triangle is solved with, the rows below go along.
//
// Most fronts are small, and then the chain from one unknown to the next is what takes the time, not the
// memory: unknowns are solved for in fours, of which everything but the four themselves is known earlier.
#pragma once

#include "cholesky_vector.hpp"

namespace torch_sla {
namespace dense {

// Reciprocal or not there at all: the diagonal of a unit triangle is 1.
template <class T>
TORCH_SLA_INLINE T over(bool unit, T x, T diagonal) {
  return unit ? x : x / real_part(diagonal);
}

// Any type: front = [own unknowns, zeros] becomes [L^-1 own, -L_below own]. L is conjugated where Conj.
template <class T, bool Conj>
TORCH_SLA_INLINE void descend_plain(Size rows, Size columns, const T* panel, bool unit, T* front) {
  for (Size j = 0; j < columns; j += 4) {
    const Size width = columns - j < 4 ? columns - j : 4, next = j + width;
    for (Size p = j; p < next; ++p) {
      T sum = front[p];
      for (Size q = j; q < p; ++q) {
        const T l = panel[q * rows + p];
        sum -= product(Conj ? conjugate(l) : l, front[q]);
      }
      front[p] = over(unit, sum, panel[p * rows + p]);
    }
    apply_body<T, Conj>(rows - next, width, panel + j * rows + next, rows, front + j, front + next);
  }
}

// Any type: front = [own unknowns, unknowns below] becomes [L^-T (own - L_below^T below), unknowns below].
template <class T, int Bytes>
TORCH_SLA_INLINE void ascend_plain(Size rows, Size columns, const T* panel, bool unit, T* front) {
  for (Size j = (columns - 1) / 4 * 4; j >= 0; j -= 4) {
    const Size width = columns - j < 4 ? columns - j : 4, end = j + width;
    gather_body<T, Bytes>(rows - end, width, panel + j * rows + end, rows, front + end, front + j);
    for (Size p = end - 1; p >= j; --p) {
      T sum = front[p];
      for (Size q = p + 1; q < end; ++q) sum -= product(panel[p * rows + q], front[q]);
      front[p] = over(unit, sum, panel[p * rows + p]);
    }
  }
}

#ifdef TORCH_SLA_VECTORS
#define TORCH_SLA_FOURS 1

template <class T>
using Four = typename Lanes<T, 4 * static_cast<int>(sizeof(T))>::type;
// Four integers, each as wide as a T.
template <class T>
using Marks = typename Lanes<std::conditional_t<sizeof(T) == 8, std::int64_t, std::int32_t>,
                             4 * static_cast<int>(sizeof(T))>::type;

// Registers are handed on by reference: how they travel by value depends on the instruction set.
template <class T>
TORCH_SLA_INLINE const Four<T>& four(const T* x) {
  return *reinterpret_cast<const Four<T>*>(x);
}
template <class T>
TORCH_SLA_INLINE Four<T>& four(T* x) {
  return *reinterpret_cast<Four<T>*>(x);
}

// x -= the sums over the lanes of four registers.
template <class T>
TORCH_SLA_INLINE void subtract_sums(const Four<T>& a, const Four<T>& b, const Four<T>& c, const Four<T>& d, Four<T>& x) {
#if defined(__clang__)
  const Four<T> ab = __builtin_shufflevector(a, b, 0, 4, 2, 6) + __builtin_shufflevector(a, b, 1, 5, 3, 7);
  const Four<T> cd = __builtin_shufflevector(c, d, 0, 4, 2, 6) + __builtin_shufflevector(c, d, 1, 5, 3, 7);
  x -= __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
#else
  using At = Marks<T>;
  const Four<T> ab = __builtin_shuffle(a, b, At{0, 4, 2, 6}) + __builtin_shuffle(a, b, At{1, 5, 3, 7});
  const Four<T> cd = __builtin_shuffle(c, d, At{0, 4, 2, 6}) + __builtin_shuffle(c, d, At{1, 5, 3, 7});
  x -= __builtin_shuffle(ab, cd, At{0, 1, 4, 5}) + __builtin_shuffle(ab, cd, At{2, 3, 6, 7});
#endif
}

// Reciprocals of the diagonal of a block of four, away from the chain that uses them.
template <class T>
TORCH_SLA_INLINE void reciprocals(const T* block, Size rows, bool unit, Four<T>& by) {
  by = Four<T>{1, 1, 1, 1};
  if (!unit) by /= Four<T>{block[0], block[rows + 1], block[2 * rows + 2], block[3 * rows + 3]};
}

// y[0 : 4 V] -= A x for `columns` columns of A.
template <class T, int V>
TORCH_SLA_INLINE void subtract_rows(Size columns, const T* a, Size ld, const T* x, T* y) {
  Four<T> sum[V] = {};
  for (Size q = 0; q < columns; ++q)
    for (int v = 0; v < V; ++v) sum[v] += four(a + q * ld + 4 * v) * x[q];
  for (int v = 0; v < V; ++v) four(y + 4 * v) -= sum[v];
}

// Columns that are finished with before the rows below them are looked at.
constexpr Size kSweep = 16;

template <class T>
TORCH_SLA_INLINE void descend_fours(Size rows, Size columns, const T* panel, bool unit, T* front) {
  const Size odd = columns % 4;  // first, so that everything behind comes in whole fours
  for (Size p = 0; p < odd; ++p) {
    T sum = front[p];
    for (Size q = 0; q < p; ++q) sum -= panel[q * rows + p] * front[q];
    front[p] = over(unit, sum, panel[p * rows + p]);
  }
  for (Size begin = 0, end; begin < columns; begin = end) {
    end = begin + kSweep + (begin == 0 ? odd : 0);
    if (end > columns) end = columns;
    for (Size j = begin == 0 ? odd : begin; j < end; j += 4) {
      const T* block = panel + j * rows + j;
      Four<T> by;
      reciprocals(block, rows, unit, by);
      subtract_rows<T, 1>(j - begin, panel + begin * rows + j, rows, front + begin, front + j);
      const Four<T> f = four(front + j);
      const T x0 = f[0] * by[0];
      const T x1 = (f[1] - block[1] * x0) * by[1];
      const T x2 = (f[2] - block[2] * x0 - block[rows + 2] * x1) * by[2];
      const T x3 = (f[3] - block[3] * x0 - block[rows + 3] * x1 - block[2 * rows + 3] * x2) * by[3];
      four(front + j) = Four<T>{x0, x1, x2, x3};
    }
    const Size width = end - begin;
    const T *a = panel + begin * rows, *x = front + begin;
    Size i = end;
    for (; i + 16 <= rows; i += 16) subtract_rows<T, 4>(width, a + i, rows, x, front + i);
    if (i + 8 <= rows) {
      subtract_rows<T, 2>(width, a + i, rows, x, front + i);
      i += 8;
    }
    if (i + 4 <= rows) {
      subtract_rows<T, 1>(width, a + i, rows, x, front + i);
      i += 4;
    }
    if (i == rows) continue;
    T last[4] = {};  // the last four rows, of which those before i were done
    subtract_rows<T, 1>(width, a + rows - 4, rows, x, last);
    for (; i < rows; ++i) front[i] += last[i - (rows - 4)];
  }
}

// Columns j .. j + W against the rows from `end` on: whole fours, then what is left of the last four.
template <class T, int W>
TORCH_SLA_INLINE void sums_below(Size rows, Size end, const T* column, const T* front, const Four<T>& rest,
                                 const Marks<T>& keep, Four<T>* sum) {
  for (int w = 0; w < W; ++w)
    sum[w] = rest * reinterpret_cast<Four<T>>(reinterpret_cast<Marks<T>>(four(column + w * rows + rows - 4)) & keep);
  const Size whole = end + (rows - end) / 4 * 4;
  // From the last row up: those nearest to the block were solved for just now.
  for (Size i = whole - 4; i >= end; i -= 4) {
    const Four<T> y = four(front + i);
    for (int w = 0; w < W; ++w) sum[w] += four(column + w * rows + i) * y;
  }
}

template <class T>
TORCH_SLA_INLINE void ascend_fours(Size rows, Size columns, const T* panel, bool unit, T* front) {
  const Size odd = columns % 4, left = (rows - columns) % 4;
  const Marks<T> keep{left > 3 ? -1 : 0, left > 2 ? -1 : 0, left > 1 ? -1 : 0, left > 0 ? -1 : 0};
  const Four<T> rest = reinterpret_cast<Four<T>>(reinterpret_cast<Marks<T>>(four(front + rows - 4)) & keep);
  Four<T> sum[4] = {};
  for (Size j = columns - 4; j >= odd; j -= 4) {
    const T* block = panel + j * rows + j;
    Four<T> by;
    reciprocals(block, rows, unit, by);
    sums_below<T, 4>(rows, j + 4, panel + j * rows, front, rest, keep, sum);
    Four<T> f = four(front + j);
    subtract_sums<T>(sum[0], sum[1], sum[2], sum[3], f);
    const T x3 = f[3] * by[3];
    const T x2 = (f[2] - block[2 * rows + 3] * x3) * by[2];
    const T x1 = (f[1] - block[rows + 3] * x3 - block[rows + 2] * x2) * by[1];
    const T x0 = (f[0] - block[3] * x3 - block[2] * x2 - block[1] * x1) * by[0];
    four(front + j) = Four<T>{x0, x1, x2, x3};
  }
  if (odd == 0) return;
  sum[1] = sum[2] = Four<T>{};
  if (odd == 1) sums_below<T, 1>(rows, odd, panel, front, rest, keep, sum);
  if (odd == 2) sums_below<T, 2>(rows, odd, panel, front, rest, keep, sum);
  if (odd == 3) sums_below<T, 3>(rows, odd, panel, front, rest, keep, sum);
  Four<T> f{front[0], odd > 1 ? front[1] : 0, odd > 2 ? front[2] : 0, 0};
  subtract_sums<T>(sum[0], sum[1], sum[2], Four<T>{}, f);
  for (Size p = odd - 1; p >= 0; --p) {
    T x = f[p];
    for (Size q = p + 1; q < odd; ++q) x -= panel[p * rows + q] * front[q];
    front[p] = over(unit, x, panel[p * rows + p]);
  }
}
#endif

template <class T, bool Conj>
TORCH_SLA_INLINE void descend_body(Size rows, Size columns, const T* panel, bool unit, T* front) {
#ifdef TORCH_SLA_FOURS
  if constexpr (!is_complex<T>)
    if (rows >= 4) return descend_fours(rows, columns, panel, unit, front);
#endif
  descend_plain<T, Conj>(rows, columns, panel, unit, front);
}

template <class T, int Bytes>
TORCH_SLA_INLINE void ascend_body(Size rows, Size columns, const T* panel, bool unit, T* front) {
#ifdef TORCH_SLA_FOURS
  if constexpr (!is_complex<T>)
    if (rows >= 4) return ascend_fours(rows, columns, panel, unit, front);
#endif
  ascend_plain<T, Bytes>(rows, columns, panel, unit, front);
}

template <class T>
struct TriangleKernels {
  void (*descend)(Size, Size, const T*, bool, T*);
  void (*descend_conjugate)(Size, Size, const T*, bool, T*);
  void (*ascend)(Size, Size, const T*, bool, T*);
};

#define TORCH_SLA_TRIANGLE_SET(NAME, ATTRIBUTE, BYTES)                                              \
  template <class T, bool Conj>                                                                     \
  ATTRIBUTE void descend_##NAME(Size rows, Size columns, const T* panel, bool unit, T* front) {     \
    descend_body<T, Conj>(rows, columns, panel, unit, front);                                       \
  }                                                                                                 \
  template <class T>                                                                                \
  ATTRIBUTE void ascend_##NAME(Size rows, Size columns, const T* panel, bool unit, T* front) {      \
    ascend_body<T, BYTES>(rows, columns, panel, unit, front);                                       \
  }                                                                                                 \
  template <class T>                                                                                \
  constexpr TriangleKernels<T> triangle_kernels_##NAME = {descend_##NAME<T, false>,                 \
                                                          descend_##NAME<T, is_complex<T>>, ascend_##NAME<T>};

TORCH_SLA_TRIANGLE_SET(base, , 16)
#ifdef TORCH_SLA_X86_DISPATCH
TORCH_SLA_TRIANGLE_SET(avx2, TORCH_SLA_AVX2, 32)
#endif
#undef TORCH_SLA_TRIANGLE_SET
#undef TORCH_SLA_FOURS

template <class T>
const TriangleKernels<T>& triangle_kernels() {
#ifdef TORCH_SLA_X86_DISPATCH
  if (instruction_set() >= 1) return triangle_kernels_avx2<T>;
#endif
  return triangle_kernels_base<T>;
}

}  // namespace dense
}  // namespace torch_sla
