// Solving with a factor: forward and backward substitution by supernodes.
//
// Right-hand sides are rows of K values, so that a supernode's own unknowns are one dense block. For
// the Hermitian kinds the work holds conj(x): L x = b becomes conj(x)^T L^H = conj(b)^T and
// L^H x = b becomes conj(x)^T L = conj(b)^T, which are the products the kernels and BLAS have.
#pragma once

#include "cholesky_object.hpp"
#include "cholesky_vector.hpp"

namespace torch_sla {

constexpr Size kSolveBlock = 64;  // right-hand sides carried through the factor together

namespace detail {

// One right-hand side: `front` holds a front's unknowns, then its other rows.
template <class T>
void forward_vector(const Factor<T>& f, std::int32_t a, T* work, T* front) {
  const Symbolic& s = *f.symbolic;
  const auto& own = dense::vector_kernels<T>();
  const Size rows = s.rows(a), columns = s.columns(a), begin = s.first[a];
  const T* panel = f.panels.data() + s.panel[a];
  const bool conj = f.conj() == Conj::yes, unit = f.pivoted();
  for (Size j = 0; j < columns; ++j) front[j] = work[begin + (unit ? f.pivot[begin + j] : j)];
  std::fill(front + columns, front + rows, T(0));
  for (Size j = 0; j < columns; j += 4) {
    const Size width = std::min<Size>(4, columns - j), end = j + width;
    for (Size p = j; p < end; ++p) {
      T sum = front[p];
      for (Size q = j; q < p; ++q) {
        const T l = panel[q * rows + p];
        sum -= product(conj ? conjugate(l) : l, front[q]);
      }
      front[p] = unit ? sum : sum / real_part(panel[p * rows + p]);
    }
    (conj ? own.apply_conjugate : own.apply)(rows - end, width, panel + j * rows + end, rows, front + j,
                                             front + end);
  }
  std::copy(front, front + columns, work + begin);
  const std::int32_t* row = s.row.data() + s.row_start[a];
  for (Size i = 0; i < rows - columns; ++i) work[row[i]] += front[columns + i];
}

template <class T>
void backward_vector(const Factor<T>& f, std::int32_t a, T* work, T* front) {
  const Symbolic& s = *f.symbolic;
  const auto& own = dense::vector_kernels<T>();
  const Size rows = s.rows(a), columns = s.columns(a), begin = s.first[a];
  const T* panel = f.panels.data() + s.panel[a];
  const bool unit = f.pivoted();
  const std::int32_t* row = s.row.data() + s.row_start[a];
  std::copy(work + begin, work + begin + columns, front);
  for (Size i = 0; i < rows - columns; ++i) front[columns + i] = work[row[i]];
  for (Size j = (columns - 1) / 4 * 4; j >= 0; j -= 4) {
    const Size width = std::min<Size>(4, columns - j), end = j + width;
    own.gather(rows - end, width, panel + j * rows + end, rows, front + end, front + j);
    for (Size p = end - 1; p >= j; --p) {
      T sum = front[p];
      for (Size q = p + 1; q < end; ++q) sum -= product(panel[p * rows + q], front[q]);
      front[p] = unit ? sum : sum / real_part(panel[p * rows + p]);
    }
  }
  for (Size j = 0; j < columns; ++j) work[begin + (unit ? f.pivot[begin + j] : j)] = front[j];
}

// K right-hand sides, K a multiple of the register's lanes; x [columns, K], and the front's other rows
// gathered behind it.
template <class T>
void forward_block(const Factor<T>& f, std::int32_t a, T* work, Size K, T* front, const Blas<T>& blas) {
  const Symbolic& s = *f.symbolic;
  const Size rows = s.rows(a), columns = s.columns(a), below = rows - columns, begin = s.first[a];
  const T* panel = f.panels.data() + s.panel[a];
  const bool conj = f.conj() == Conj::yes, unit = f.pivoted();
  for (Size j = 0; j < columns; ++j) {
    const T* from = work + (begin + (unit ? f.pivot[begin + j] : j)) * K;
    std::copy(from, from + K, front + j * K);
  }
  for (Size j = 0; j < columns; j += 8) {
    const Size width = std::min<Size>(8, columns - j);
    if (j > 0)
      subtract_product(blas, f.conj(), false, false, K, width, j, front, K, panel + j, rows, front + j * K, K);
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
  subtract_product(blas, f.conj(), false, true, K, below, columns, front, K, panel + columns, rows, rest, K);
  const std::int32_t* row = s.row.data() + s.row_start[a];
  for (Size i = 0; i < below; ++i) {
    T* to = work + row[i] * K;
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
void backward_block(const Factor<T>& f, std::int32_t a, T* work, Size K, T* front, const Blas<T>& blas) {
  const Symbolic& s = *f.symbolic;
  const Size rows = s.rows(a), columns = s.columns(a), below = rows - columns, begin = s.first[a];
  const T* panel = f.panels.data() + s.panel[a];
  const bool unit = f.pivoted();
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

// Rows of `work` by D^-1, conj(D)^-1 where the work is conjugated. 2x2 blocks are scaled by their
// coupling first, which is their largest entry.
template <class T>
void divide_blocks(const Factor<T>& f, T* work, Size K) {
  const bool conj = f.conj() == Conj::yes;
  for (Size j = 0; j < f.symbolic->n; ++j) {
    T* x = work + j * K;
    if (f.width[j] == 1) {
      const T d = conj ? T(real_part(f.diagonal[j])) : f.diagonal[j];
      for (Size k = 0; k < K; ++k) x[k] /= d;
    } else if (f.width[j] == 2) {
      T* y = x + K;
      const T lower = conj ? conjugate(f.coupling[j]) : f.coupling[j];  // row j+1, column j
      const T upper = f.coupling[j];
      const T p = f.diagonal[j] / lower, q = f.diagonal[j + 1] / upper, det = product(p, q) - T(1);
      for (Size k = 0; k < K; ++k) {
        const T u = x[k], v = y[k];
        x[k] = (product(q, u) - v) / (det * lower);
        y[k] = (product(p, v) - u) / (det * upper);
      }
    }
  }
}

}  // namespace detail

// x = op(A)^-1 b for b, x [n, nrhs] in rows. `conjugated` solves with conj(A) in place of A; transposed
// and conjugate transposed systems follow from the kind (A^T = conj(A) where A is Hermitian, A^T = A
// where it is symmetric). x may be b.
template <class T>
void solve(const Factor<T>& f, const T* b, T* x, Size nrhs, bool conjugated, int threads, const Blas<T>& blas) {
  const Symbolic& s = *f.symbolic;
  if (s.n == 0 || nrhs == 0) return;
  const bool flip = is_complex<T> && ((f.conj() == Conj::yes) != conjugated);
  constexpr Size lanes = std::max<Size>(1, 32 / static_cast<Size>(sizeof(T)));
  const Size per = nrhs == 1 ? 1 : std::min<Size>(kSolveBlock, (nrhs + lanes - 1) / lanes * lanes);
  const Size blocks = (nrhs + per - 1) / per;
  parallel_for(blocks, threads, [&](Size from, Size to, int) {
    Buffer<T> work(s.n * per), front(std::max<Size>(1, s.largest_front) * per);
    for (Size block = from; block < to; ++block) {
      const Size start = block * per, count = std::min(per, nrhs - start);
      const Size K = count == 1 && per == 1 ? 1 : (count + lanes - 1) / lanes * lanes;
      for (Size j = 0; j < s.n; ++j) {
        const T* given = b + static_cast<Size>(s.order[j]) * nrhs + start;
        T* to_row = work.data() + j * K;
        const Real<T> scale = f.scale.empty() ? Real<T>(1) : f.scale[s.order[j]];
        for (Size k = 0; k < count; ++k) to_row[k] = (flip ? conjugate(given[k]) : given[k]) * scale;
        std::fill(to_row + count, to_row + K, T(0));
      }
      for (std::int32_t a = 0; a < s.supernodes(); ++a) {
        if (K == 1)
          detail::forward_vector(f, a, work.data(), front.data());
        else
          detail::forward_block(f, a, work.data(), K, front.data(), blas);
      }
      if (f.pivoted()) detail::divide_blocks(f, work.data(), K);
      for (std::int32_t a = s.supernodes() - 1; a >= 0; --a) {
        if (K == 1)
          detail::backward_vector(f, a, work.data(), front.data());
        else
          detail::backward_block(f, a, work.data(), K, front.data(), blas);
      }
      for (Size j = 0; j < s.n; ++j) {
        T* out = x + static_cast<Size>(s.order[j]) * nrhs + start;
        const T* found = work.data() + j * K;
        const Real<T> scale = f.scale.empty() ? Real<T>(1) : f.scale[s.order[j]];
        for (Size k = 0; k < count; ++k) out[k] = (flip ? conjugate(found[k]) : found[k]) * scale;
      }
    }
  });
}

}  // namespace torch_sla
