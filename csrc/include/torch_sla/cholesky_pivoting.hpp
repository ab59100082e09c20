// L D L^H (or L D L^T) of a dense block with 1x1 and 2x2 pivots: J. R. Bunch, L. Kaufman, Math. Comp.
// 31, 163-179, 1977, blocked as in N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2nd
// ed., section 11.1; negligible pivots are replaced (O. Schenk, K. Gärtner, ETNA 23, 158-179, 2006).
#pragma once

#include <vector>

#include "cholesky_front.hpp"

namespace torch_sla {

// The pivots of n columns, as in Factor.
template <class T>
struct Pivots {
  std::int32_t* local;
  unsigned char* width;
  T *diagonal, *coupling;
};

template <class T>
class BunchKaufman {
 public:
  // a: lower triangle of the n x n block, overwritten by unit lower L. Pivots below `tiny` in
  // magnitude become `tiny` with their sign; `perturbed` counts them.
  BunchKaufman(const Blas<T>& blas, Conj conj, Size n, T* a, Size ld, Real<T> tiny, Pivots<T> pivots,
               std::vector<T>& work, std::int64_t& perturbed)
      : blas_(blas), conj_(conj), n_(n), a_(a), ld_(ld), tiny_(tiny), d_(pivots), work_(work),
        perturbed_(perturbed) {
    work_.resize(static_cast<std::size_t>(n * std::min(kBlock, n + 1)));
    for (Size j = 0; j < n; ++j) {
      d_.local[j] = static_cast<std::int32_t>(j);
      d_.coupling[j] = T(0);
    }
  }

  void run() {
    for (Size begin = 0; begin < n_;) {
      const Size end = panel(begin);
      subtract_product(blas_, conj_, true, false, n_ - end, n_ - end, end - begin, a_ + begin * ld_ + end,
                       ld_, w(end, 0), n_, a_ + end * ld_ + end, ld_);
      begin = end;
    }
  }

 private:
  static constexpr Size kBlock = 48;

  T* w(Size row, Size column) { return work_.data() + column * n_ + row; }
  T star(T x) const { return conj_ == Conj::yes ? conjugate(x) : x; }
  T on_diagonal(T x) const { return conj_ == Conj::yes ? T(real_part(x)) : x; }

  // Column `column` of the block as it stands, rows begin .. n, into W: the stored values minus what the
  // panel's earlier pivots contribute.
  void update_column(Size begin, Size done, Size first, Size column, T* to) {
    for (Size i = first; i < column; ++i) to[i] = star(a_[i * ld_ + column]);
    for (Size i = column; i < n_; ++i) to[i] = a_[column * ld_ + i];
    for (Size p = 0; p < done; ++p) {
      const T y = star(*w(column, p));
      const T* l = a_ + (begin + p) * ld_;
      for (Size i = first; i < n_; ++i) to[i] -= product(l[i], y);
    }
    to[column] = on_diagonal(to[column]);
  }

  // Symmetric interchange of rows and columns i < j of the part from column i on, and of the rows of
  // everything eliminated before.
  void interchange(Size done, Size i, Size j) {
    if (i == j) return;
    std::swap(d_.local[i], d_.local[j]);
    for (Size p = 0; p < i; ++p) std::swap(a_[p * ld_ + i], a_[p * ld_ + j]);
    std::swap(a_[i * ld_ + i], a_[j * ld_ + j]);
    for (Size k = i + 1; k < j; ++k) {
      const T kept = a_[i * ld_ + k];
      a_[i * ld_ + k] = star(a_[k * ld_ + j]);
      a_[k * ld_ + j] = star(kept);
    }
    a_[i * ld_ + j] = star(a_[i * ld_ + j]);
    for (Size k = j + 1; k < n_; ++k) std::swap(a_[i * ld_ + k], a_[j * ld_ + k]);
    for (Size p = 0; p < done; ++p) std::swap(*w(i, p), *w(j, p));
  }

  // Factorises columns from `begin` while a panel's workspace lasts; returns where it stopped.
  Size panel(Size begin) {
    const Real<T> alpha = static_cast<Real<T>>((1 + std::sqrt(17.0)) / 8);
    Size k = begin;
    while (k < n_ && (k - begin < kBlock - 1 || k == n_ - 1) && k - begin < kBlock) {
      const Size done = k - begin;
      T* first = w(0, done);
      update_column(begin, done, k, k, first);
      Size widest = k;
      const Real<T> own = magnitude(first[k]), column_max = largest(first, k + 1, n_, k, widest);
      Size size = 1, chosen = k;
      if (std::max(own, column_max) > tiny_ && own < alpha * column_max) {
        T* second = w(0, done + 1);
        update_column(begin, done, k, widest, second);
        Size ignored = 0;
        const Real<T> row_max = largest(second, k, n_, widest, ignored);
        if (own * row_max >= alpha * column_max * column_max) {
          // the diagonal will do
        } else if (magnitude(second[widest]) >= alpha * row_max) {
          chosen = widest;
          std::copy(second + k, second + n_, first + k);
        } else {
          size = 2;
          chosen = widest;
        }
      }
      // The pivot goes to the front of what is left; W has its column and moves along.
      const Size target = k + size - 1;
      interchange(done + size, target, chosen);
      eliminate(k, size, first, w(0, done + 1));
      k += size;
    }
    return k;
  }

  Real<T> largest(const T* x, Size from, Size to, Size except, Size& where) const {
    Real<T> most = 0;
    for (Size i = from; i < to; ++i)
      if (i != except && magnitude(x[i]) > most) most = magnitude(x[i]), where = i;
    return most;
  }

  void eliminate(Size k, Size size, T* first, T* second) {
    T* l = a_ + k * ld_;
    if (size == 1) {
      T pivot = on_diagonal(first[k]);
      if (!(magnitude(pivot) > tiny_) && is_finite(pivot)) {
        ++perturbed_;
        pivot = real_part(pivot) < 0 ? T(-tiny_) : T(tiny_);
      }
      d_.width[k] = 1;
      d_.diagonal[k] = pivot;
      first[k] = pivot;
      l[k] = T(1);
      for (Size i = k + 1; i < n_; ++i) l[i] = first[i] / pivot;
      return;
    }
    T* m = l + ld_;
    const T lower = first[k + 1], upper = star(lower);
    const T d0 = on_diagonal(first[k]), d1 = on_diagonal(second[k + 1]);
    const T p = d0 / lower, q = d1 / upper, det = product(p, q) - T(1);
    d_.width[k] = 2;
    d_.width[k + 1] = 0;
    d_.diagonal[k] = d0;
    d_.diagonal[k + 1] = d1;
    d_.coupling[k] = lower;
    second[k] = upper;
    l[k] = m[k + 1] = T(1);
    l[k + 1] = T(0);
    for (Size i = k + 2; i < n_; ++i) {  // [l m] D = [first second]
      l[i] = (product(q, first[i]) - product(second[i], lower / upper)) / (lower * det);
      m[i] = (product(p, second[i]) - product(first[i], upper / lower)) / (upper * det);
    }
  }

  const Blas<T>& blas_;
  Conj conj_;
  Size n_;
  T* a_;
  Size ld_;
  Real<T> tiny_;
  Pivots<T> d_;
  std::vector<T>& work_;
  std::int64_t& perturbed_;
};

}  // namespace torch_sla
