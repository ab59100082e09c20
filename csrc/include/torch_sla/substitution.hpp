// Forward and backward substitution by supernodes, for factors of every kind.
//
// Right-hand sides are rows of K values, so that a supernode's own unknowns are one dense block. For
// the Hermitian kinds the work holds conj(x): L x = b becomes conj(x)^T L^H = conj(b)^T and
// L^H x = b becomes conj(x)^T L = conj(b)^T, which are the products the kernels and BLAS have.
#pragma once

#include "cholesky_front.hpp"
#include "cholesky_memory.hpp"
#include "cholesky_symbolic.hpp"
#include "triangle_kernels.hpp"

namespace torch_sla {

constexpr Size kSolveBlock = 64;  // right-hand sides carried through the factor together

// A unit or Cholesky triangle by supernodes, as factors of all kinds have one.
template <class T>
struct Triangle {
  const Symbolic& symbolic;
  const T* panels;
  const std::int32_t* pivot;  // of unit ones: where inside its front a column comes from
  bool conj, unit;
};

namespace detail {

// Small fronts are over before the memory has answered, and none is read in the order in which it lies. So it is gone
// through once in that order, which the processor takes for a stream and runs ahead of, while what the sweep comes to
// in a while is asked for besides: the two together bring more than either. (Inlined, or GCC takes a function without a
// result for one that does nothing.)
template <class T>
TORCH_SLA_INLINE void fetch_ahead(const Triangle<T>& f, std::int32_t a, bool up) {
#ifdef TORCH_SLA_VECTORS
  constexpr Size line = 64 / static_cast<Size>(sizeof(T)), ahead = 256 * line, most = 1024 * line;
  constexpr Size cached = (Size{1} << 24) / static_cast<Size>(sizeof(T));  // factors that a cache may hold are at hand
  const Symbolic& s = f.symbolic;
  if (s.panel_entries() <= cached) return;
  const Size begin = s.panel[a], count = std::min(most, s.panel[a + 1] - begin), last = s.panel_entries() - 1;
  const Size step = up ? line : -line;
  for (Size e = up ? begin : begin + count - 1, k = 0; k < count; k += line, e += step) {
    __builtin_prefetch(f.panels + std::max<Size>(0, std::min(last, e + (up ? ahead : -ahead))));
    asm volatile("" : : "r"(*reinterpret_cast<const unsigned char*>(f.panels + e)));
  }
#endif
}

// One right-hand side: `front` holds a front's unknowns, then its other rows. What it adds to rows from
// `end` on goes to `outside`.
template <class T>
void forward_vector(const Triangle<T>& f, std::int32_t a, T* work, T* front, std::int32_t end, T* outside) {
  const Symbolic& s = f.symbolic;
  const Size rows = s.rows(a), columns = s.columns(a), begin = s.first[a];
  const auto& own = dense::triangle_kernels<T>();
  fetch_ahead(f, a, true);
  for (Size j = 0; j < columns; ++j) front[j] = work[begin + (f.unit ? f.pivot[begin + j] : j)];
  std::fill(front + columns, front + rows, T(0));
  (f.conj ? own.descend_conjugate : own.descend)(rows, columns, f.panels + s.panel[a], f.unit, front);
  std::copy(front, front + columns, work + begin);
  const std::int32_t* row = s.row.data() + s.row_start[a];
  Size i = 0;
  for (; i < rows - columns && row[i] < end; ++i) work[row[i]] += front[columns + i];
  for (; i < rows - columns; ++i) outside[row[i]] += front[columns + i];
}

template <class T>
void backward_vector(const Triangle<T>& f, std::int32_t a, T* work, T* front) {
  const Symbolic& s = f.symbolic;
  const Size rows = s.rows(a), columns = s.columns(a), begin = s.first[a];
  const std::int32_t* row = s.row.data() + s.row_start[a];
  fetch_ahead(f, a, false);
  std::copy(work + begin, work + begin + columns, front);
  for (Size i = 0; i < rows - columns; ++i) front[columns + i] = work[row[i]];
  dense::triangle_kernels<T>().ascend(rows, columns, f.panels + s.panel[a], f.unit, front);
  for (Size j = 0; j < columns; ++j) work[begin + (f.unit ? f.pivot[begin + j] : j)] = front[j];
}

// K right-hand sides, K a multiple of the register's lanes; x [columns, K], and the front's other rows
// gathered behind it.
template <class T>
void forward_block(const Triangle<T>& f, std::int32_t a, T* work, Size K, T* front, std::int32_t end, T* outside,
                   const Blas<T>& blas) {
  const Symbolic& s = f.symbolic;
  fetch_ahead(f, a, true);
  const Size rows = s.rows(a), columns = s.columns(a), below = rows - columns, begin = s.first[a];
  const T* panel = f.panels + s.panel[a];
  const bool conj = f.conj, unit = f.unit;
  for (Size j = 0; j < columns; ++j) {
    const T* from = work + (begin + (unit ? f.pivot[begin + j] : j)) * K;
    std::copy(from, from + K, front + j * K);
  }
  for (Size j = 0; j < columns; j += 8) {
    const Size width = std::min<Size>(8, columns - j);
    if (j > 0)
      subtract_product(blas, f.conj ? Conj::yes : Conj::no, false, false, K, width, j, front, K, panel + j, rows, front + j * K, K);
    for (Size p = j; p < j + width; ++p) {
      T* to = front + p * K;
      for (Size q = j; q < p; ++q) {
        const T l = conj ? conjugate(panel[q * rows + p]) : panel[q * rows + p];
        for (Size k = 0; k < K; ++k) to[k] -= product(l, front[q * K + k]);
      }
      if (unit) continue;
      const Real<T> inverse = 1 / real_part(panel[p * rows + p]);
      for (Size k = 0; k < K; ++k) to[k] *= inverse;
    }
  }
  std::copy(front, front + columns * K, work + begin * K);
  if (below == 0) return;
  T* rest = front + columns * K;
  subtract_product(blas, f.conj ? Conj::yes : Conj::no, false, true, K, below, columns, front, K, panel + columns, rows, rest, K);
  const std::int32_t* row = s.row.data() + s.row_start[a];
  for (Size i = 0; i < below; ++i) {
    T* to = (row[i] < end ? work : outside) + row[i] * K;
    for (Size k = 0; k < K; ++k) to[k] += rest[i * K + k];
  }
}

// C -= A B for A [K, m], B [m, n].
template <class T>
void subtract_plain(const Blas<T>& blas, Size K, Size n, Size m, const T* a, const T* b, Size ldb, T* c) {
  if (n == 0 || m == 0) return;
  if (blas.complete() && n * m >= 64 * 64)
    call_gemm<T>(blas, 'N', 'N', static_cast<int>(K), static_cast<int>(n), static_cast<int>(m), T(-1), a,
                 static_cast<int>(K), b, static_cast<int>(ldb), T(1), c, static_cast<int>(K));
  else
    dense::kernels<T>().plain(K, n, m, a, K, b, ldb, c, K);
}

template <class T>
void backward_block(const Triangle<T>& f, std::int32_t a, T* work, Size K, T* front, const Blas<T>& blas) {
  const Symbolic& s = f.symbolic;
  fetch_ahead(f, a, false);
  const Size rows = s.rows(a), columns = s.columns(a), below = rows - columns, begin = s.first[a];
  const T* panel = f.panels + s.panel[a];
  const bool unit = f.unit;
  const std::int32_t* row = s.row.data() + s.row_start[a];
  std::copy(work + begin * K, work + (begin + columns) * K, front);
  for (Size i = 0; i < below; ++i)
    std::copy(work + row[i] * K, work + (row[i] + std::int64_t{1}) * K, front + (columns + i) * K);
  subtract_plain(blas, K, columns, below, front + columns * K, panel + columns, rows, front);
  for (Size j = (columns - 1) / 8 * 8; j >= 0; j -= 8) {
    const Size width = std::min<Size>(8, columns - j), end = j + width;
    subtract_plain(blas, K, width, columns - end, front + end * K, panel + j * rows + end, rows, front + j * K);
    for (Size p = end - 1; p >= j; --p) {
      T* to = front + p * K;
      for (Size q = p + 1; q < end; ++q) {
        const T l = panel[p * rows + q];
        for (Size k = 0; k < K; ++k) to[k] -= product(l, front[q * K + k]);
      }
      if (unit) continue;
      const Real<T> inverse = 1 / real_part(panel[p * rows + p]);
      for (Size k = 0; k < K; ++k) to[k] *= inverse;
    }
  }
  for (Size j = 0; j < columns; ++j)
    std::copy(front + j * K, front + (j + 1) * K, work + (begin + (unit ? f.pivot[begin + j] : j)) * K);
}

// Room for one worker's fronts, and for what its subtrees add to rows outside of them.
template <class T>
struct SolveRoom {
  Buffer<T> front;
  std::vector<T> outside;
};

// Whether there is nothing to carry on; what is not a number is something.
template <class T>
bool all_zero(const T* x, Size count) {
  for (Size i = 0; i < count; ++i)
    if (x[i] != T(0)) return false;
  return true;
}

// Both substitutions on `work` [n, K] in the order of elimination. On the way up, fronts whose own rows are zero are
// passed over: right-hand sides of sensors and of point loads are zero nearly everywhere. Disjoint subtrees go first and
// last, shared out among `rooms`; what each adds to the fronts above is added up in a fixed order.
template <class T, class Steps>
void substitute_tree(const Symbolic& s, const Steps& steps, T* work, Size K, std::vector<SolveRoom<T>>& rooms) {
  const std::int32_t parts = static_cast<std::int32_t>(s.part_root.size());
  const int workers = worker_count(parts, static_cast<int>(rooms.size()));
  const auto forward = [&](std::int32_t a, T* front, std::int32_t end, T* outside) {
    if (all_zero(work + s.first[a] * K, s.columns(a) * K)) return;
    steps.forward(a, work, K, front, end, outside);
  };
  const auto backward = [&](std::int32_t a, T* front) { steps.backward(a, work, K, front); };
  // Parts to workers: each to the one with the least so far, which only decides who does what.
  std::vector<std::vector<std::int32_t>> dealt(workers);
  std::vector<std::int64_t> load(workers, 0);
  for (std::int32_t p = 0; p < parts; ++p) {
    const auto least = std::min_element(load.begin(), load.end()) - load.begin();
    dealt[least].push_back(p);
    load[least] += s.panel[s.part_root[p] + 1] - s.panel[s.part_first[p]];
  }
  std::vector<std::vector<T>> sums(parts);
  parallel_run(workers, [&](int worker) {
    SolveRoom<T>& room = rooms[worker];
    for (const std::int32_t p : dealt[worker]) {
      const std::int32_t root = s.part_root[p], end = s.first[root + 1];
      for (std::int32_t a = s.part_first[p]; a <= root; ++a) forward(a, room.front.data(), end, room.outside.data());
      const std::int32_t* row = s.row.data() + s.row_start[root];
      const Size below = s.below(root);
      sums[p].resize(below * K);
      for (Size i = 0; i < below; ++i)
        for (Size k = 0; k < K; ++k) {
          T& from = room.outside[row[i] * K + k];
          sums[p][i * K + k] = from;
          from = T(0);
        }
    }
  });
  for (std::int32_t p = 0; p < parts; ++p) {
    const std::int32_t* row = s.row.data() + s.row_start[s.part_root[p]];
    for (Size i = 0; i < s.below(s.part_root[p]); ++i)
      for (Size k = 0; k < K; ++k) work[row[i] * K + k] += sums[p][i * K + k];
  }
  const std::int32_t m = s.supernodes();
  for (std::int32_t a = 0, p = 0; a < m; ++a)
    if (p < parts && a == s.part_first[p])
      a = s.part_root[p++];
    else
      forward(a, rooms[0].front.data(), s.n, nullptr);
  steps.between(work, K);
  for (std::int32_t a = m - 1, p = parts - 1; a >= 0; --a)
    if (p >= 0 && a == s.part_root[p])
      a = s.part_first[p--];
    else
      backward(a, rooms[0].front.data());
  parallel_run(workers, [&](int worker) {
    for (const std::int32_t p : dealt[worker])
      for (std::int32_t a = s.part_root[p]; a >= s.part_first[p]; --a) backward(a, rooms[worker].front.data());
  });
}

}  // namespace detail

// x = op(A)^-1 b for b, x [n, nrhs] in rows, both conjugated on the way where `flip`, and scaled by `scale` [n] where
// that is not null. `steps` has what is done with a front on the way up, forward(a, work, K, front, end,
// outside), at the top, between(work, K), and on the way down, backward(a, work, K, front); K is 1 or a
// multiple of the register's lanes. x may be b.
template <class T, class Steps>
void substitute(const Symbolic& s, const Steps& steps, const Real<T>* scale, bool flip, const T* b, T* x, Size nrhs,
                int threads) {
  if (s.n == 0 || nrhs == 0) return;
  constexpr Size lanes = std::max<Size>(1, 32 / static_cast<Size>(sizeof(T)));
  const Size per = nrhs == 1 ? 1 : std::min<Size>(kSolveBlock, (nrhs + lanes - 1) / lanes * lanes);
  const Size blocks = (nrhs + per - 1) / per;
  // Blocks of right-hand sides are shared out where there are enough, the tree where there are not.
  const int apart = blocks >= threads ? threads : 1, inside = blocks >= threads ? 1 : threads;
  parallel_for(blocks, apart, [&](Size from, Size to, int) {
    Buffer<T> work(s.n * per);
    std::vector<detail::SolveRoom<T>> rooms(std::max(1, inside));
    for (auto& room : rooms) {
      room.front = Buffer<T>(std::max<Size>(1, s.largest_front) * per);
      if (!s.part_root.empty()) room.outside.assign(s.n * per, T(0));
    }
    for (Size block = from; block < to; ++block) {
      const Size start = block * per, count = std::min(per, nrhs - start);
      const Size K = count == 1 && per == 1 ? 1 : (count + lanes - 1) / lanes * lanes;
      // In the order of elimination and back, for `width` right-hand sides, perhaps a constant.
      const auto take = [&](auto width) {
        for (Size j = 0; j < s.n; ++j) {
          const T* given = b + static_cast<Size>(s.order[j]) * nrhs + start;
          T* to_row = work.data() + j * K;
          const Real<T> by = scale ? scale[s.order[j]] : Real<T>(1);
          for (Size k = 0; k < width; ++k) to_row[k] = (flip ? conjugate(given[k]) : given[k]) * by;
          for (Size k = width; k < K; ++k) to_row[k] = T(0);
        }
      };
      const auto give = [&](auto width) {
        for (Size j = 0; j < s.n; ++j) {
          T* out = x + static_cast<Size>(s.order[j]) * nrhs + start;
          const T* found = work.data() + j * K;
          const Real<T> by = scale ? scale[s.order[j]] : Real<T>(1);
          for (Size k = 0; k < width; ++k) out[k] = (flip ? conjugate(found[k]) : found[k]) * by;
        }
      };
      const std::integral_constant<Size, 1> one;
      K == 1 ? take(one) : take(count);
      detail::substitute_tree(s, steps, work.data(), K, rooms);
      K == 1 ? give(one) : give(count);
    }
  });
}

}  // namespace torch_sla
