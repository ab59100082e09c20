// What a square CSR matrix is: symmetric, Hermitian, diagonally dominant, indefinite; and how large.
//
// Rows are looked at each on its own: the mirror image of an entry is found where that of its neighbour was, so
// that no transpose is formed.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "parallel.hpp"
#include "prefetch.hpp"

namespace torch_sla {

struct MatrixFlags {
  bool pattern = false;    // structurally symmetric
  bool symmetric = false;  // to rounding
  bool hermitian = false;
  bool positive = false;   // every diagonal entry is real and positive
  bool dominant = false;   // |a_ii| >= sum of the others, strictly in a row of every component
  bool rounded = false;    // some entries equal their mirror images only beside a diagonal entry
  double left_over = 0.0;  // smallest 1 - sum / |a_ii| over the rows, at least 0

  // What holds of both of two matrices; they are rounded where one is.
  MatrixFlags operator&(const MatrixFlags& other) const {
    return {pattern && other.pattern,   symmetric && other.symmetric, hermitian && other.hermitian,
            positive && other.positive, dominant && other.dominant,   rounded || other.rounded,
            std::min(left_over, other.left_over)};
  }
};

namespace detail {

template <class T>
inline T real_part(T x) { return x; }
template <class T>
inline T real_part(std::complex<T> x) { return x.real(); }
template <class T>
inline T conjugate(T x) { return x; }
template <class T>
inline std::complex<T> conjugate(std::complex<T> x) { return std::conj(x); }

// Whether every row is reached from a marked one along entries that are not zero.
template <class T, class I>
bool all_reached(const I* crow, const I* ccol, const T* val, std::int64_t n, std::vector<std::uint8_t>& mark) {
  std::vector<std::int64_t> stack;
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < n; ++i)
    if (mark[i]) stack.push_back(i);
  count = static_cast<std::int64_t>(stack.size());
  while (!stack.empty()) {
    const std::int64_t i = stack.back();
    stack.pop_back();
    for (I s = crow[i]; s < crow[i + 1]; ++s) {
      const I j = ccol[s];
      if (mark[j] || val[s] == T(0)) continue;
      mark[j] = 1;
      ++count;
      stack.push_back(j);
    }
  }
  return count == n;
}

// Finds the entry of row j in column i. Neighbouring rows mostly keep theirs at nearly the same place, so the k-th
// entry of a row first looks around where the mirror image of the last row's k-th entry was.
template <class I>
class MirrorFinder {
 public:
  MirrorFinder(const I* crow, const I* ccol) : crow_(crow), ccol_(ccol) {}
  // The slot, or -1.
  I find(I i, I j, std::int64_t k) {
    const I from = crow_[j], to = crow_[j + 1];
    I& guess = guess_[k % kKept];
    I at = from + guess;
    if (at < to) {
      // Unknowns of one node have neighbouring columns: a step or two leads to the right one.
      for (int step = 0; step < kSteps && ccol_[at] < i && at + 1 < to; ++step) ++at;
      for (int step = 0; step < kSteps && ccol_[at] > i && at > from; ++step) --at;
      if (ccol_[at] == i) {
        guess = at - from;
        return at;
      }
    }
    at = static_cast<I>(std::lower_bound(ccol_ + from, ccol_ + to, i) - ccol_);
    if (at == to || ccol_[at] != i) return I(-1);
    guess = at - from;
    return at;
  }

 private:
  static constexpr std::int64_t kKept = 128;
  static constexpr int kSteps = 3;
  const I* crow_;
  const I* ccol_;
  std::array<I, kKept> guess_{};
};

// The rows of a lattice, one after the other: where the last row had its entries and their mirror images, this one
// mostly has them, too, and is looked at without a search and without a branch.
template <class T, class I>
class LikeRows {
 public:
  using Real = decltype(std::abs(T()));
  struct Row {
    bool same;    // as long as the last row, entries and mirror images in the same places, these of equal values
    T own;        // diagonal entry
    Real others;  // sum of the sizes of the others
    bool before, after;  // whether there are some that are not zero
  };
  LikeRows(const I* crow, const I* ccol, const T* val) : crow_(crow), ccol_(ccol), val_(val) {}

  // Takes the places from a row that was none of this kind: at once from one that is as long, so that the few shorter
  // ones between lines are passed over, and seldom where that has not paid lately.
  void learn(I i) {
    const I from = crow_[i], to = crow_[i + 1];
    ++missed_;
    if (tried_ >= kTries) count_ = 0;
    if (to - from > kMost || missed_ < (tried_ >= kTries ? kSeldom : to - from < count_ ? kTries : 1)) return;
    missed_ = count_ = 0;
    ++tried_;
    above_ = I(to - from);
    for (I k = 0; k < to - from; ++k) {
      const I j = ccol_[from + k];
      step_[k] = j - i;
      if (j > i && above_ == to - from) above_ = k;
      if (j > i) place_[k] = static_cast<I>(std::lower_bound(ccol_ + crow_[j], ccol_ + crow_[j + 1], i) - ccol_ - crow_[j]);
    }
    if (above_ > 0 && step_[above_ - 1] == 0) count_ = I(to - from);  // with a diagonal entry
  }
  Row look(I i) const {
    switch (count_) {
      case 0: return Row{};
      case 3: return look<3>(i);
      case 5: return look<5>(i);
      case 7: return look<7>(i);
      case 9: return look<9>(i);
      case 27: return look<27>(i);
      default: return look<0>(i);
    }
  }
  void paid() { tried_ = 0; }
  I below() const { return above_ - 1; }
  I above() const { return count_ - above_; }

 private:
  template <int Count>
  Row look(I i) const {
    const I count = Count ? I(Count) : count_, above = Count ? I(Count / 2 + 1) : above_, from = crow_[i];
    Row row{crow_[i + 1] - from == count && above == above_, T(0), Real(0), false, false};
    if (!row.same) return row;
    const I* col = ccol_ + from;
    const T* val = val_ + from;
    I elsewhere = 0;
    for (I k = 0; k < count; ++k) elsewhere |= (col[k] - i) ^ step_[k];
    if (elsewhere) {
      row.same = false;
      return row;
    }
    Real others = 0, after = 0;
    for (I k = 0; k + 1 < above; ++k) others += std::abs(val[k]);
    const bool before = others != Real(0);
    bool good = true;
    for (I k = above; k < count; ++k) {
      const I j = i + step_[k], at = crow_[j] + place_[k];
      prefetch(ccol_ + at);
      prefetch(val_ + at);
      good = good && at < crow_[j + 1] && ccol_[at] == i && val_[at] == val[k];
      others += std::abs(val[k]);
      after += std::abs(val[k]);
    }
    return {good, val[above - 1], others, before, after != Real(0)};
  }

  static constexpr I kMost = 27;
  static constexpr int kTries = 4, kSeldom = 64;
  const I* crow_;
  const I* ccol_;
  const T* val_;
  I count_ = 0, above_ = 0;  // entries of these rows, and which of them is the first above the diagonal
  int missed_ = 0, tried_ = 0;
  std::array<I, kMost> step_{}, place_{};
};

// What one worker finds about its rows.
struct RowFindings {
  bool mirrored = true, symmetric = true, hermitian = true, positive = true, dominant = true;
  bool all_strict = true, first_strict = true, last_strict = true, rounded = false;
  std::int64_t above = 0, below = 0;
  double left = 1.0;
};

}  // namespace detail

// Two entries count as equal when they differ by at most 8 eps of the largest of themselves and of the
// two diagonal entries; "strictly" leaves rounding behind. A component has a strict row where its first row is
// one: the first is coupled to none before it, so that rows tell by themselves, mostly.
template <class T, class I>
MatrixFlags matrix_flags(const I* crow, const I* ccol, const T* val, std::int64_t n, int threads = 1) {
  using Real = decltype(std::abs(T()));
  constexpr Real eps = std::numeric_limits<Real>::epsilon();
  constexpr bool kReal = std::is_floating_point_v<T>;
  const auto diagonal = [&](std::int64_t i) {
    const I* at = std::lower_bound(ccol + crow[i], ccol + crow[i + 1], static_cast<I>(i));
    return at != ccol + crow[i + 1] && *at == static_cast<I>(i) ? Real(std::abs(val[at - ccol])) : Real(0);
  };
  std::vector<detail::RowFindings> parts(worker_count(n, threads));
  parallel_for_balanced(crow, n, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
    detail::RowFindings f;
    detail::MirrorFinder<I> mirror(crow, ccol);
    [[maybe_unused]] detail::LikeRows<T, I> like(crow, ccol, val);
    Real left = 1;
    for (std::int64_t i = begin; i < end && f.mirrored; ++i) {
      T own = T(0);
      Real sum = 0, here = -1;
      bool before = false, after = false;
      bool alike = false;
      if constexpr (kReal) {
        const auto row = like.look(static_cast<I>(i));
        alike = row.same;
        if (alike) {
          like.paid();
          own = row.own;
          sum = row.others;
          before = row.before;
          after = row.after;
          f.below += like.below();
          f.above += like.above();
          if (!(own == own)) f.symmetric = false;
          if (!(own - own == T(0))) f.hermitian = false;
        }
      }
      for (I s = crow[i]; s < crow[i + 1] && !alike; ++s) {
        const I j = ccol[s];
        const T a = val[s];
        if (j == static_cast<I>(i)) {
          own = a;
          if (!(std::abs(a - detail::conjugate(a)) <= 8 * eps * std::abs(a))) f.hermitian = false;
          if (!(a == a)) f.symmetric = false;
          continue;
        }
        sum += std::abs(a);
        if (j < static_cast<I>(i)) {
          ++f.below;
          before |= a != T(0);
          continue;
        }
        ++f.above;
        after |= a != T(0);
        const I t = mirror.find(static_cast<I>(i), j, s - crow[i]);
        if (t < 0) {
          f.mirrored = false;
          break;
        }
        const T b = val[t];
        const bool same = a == b, turned = a == detail::conjugate(b);
        if (same && turned) continue;
        const Real apart = std::abs(a - b), aside = std::abs(a - detail::conjugate(b));
        // The diagonal entries are looked for where the two do not settle it; that of the row once.
        const Real both = std::max(std::abs(a), std::abs(b));
        Real largest = both;
        const auto settled = [&] { return apart <= 8 * eps * largest && aside <= 8 * eps * largest; };
        if (!settled()) {
          if (here < 0) here = diagonal(i);
          largest = std::max(largest, here);
        }
        if (!settled()) largest = std::max(largest, diagonal(j));
        if (!same && !(apart <= 8 * eps * largest)) f.symmetric = false;
        if (!turned && !(aside <= 8 * eps * largest)) f.hermitian = false;
        const auto beside = [&](Real gap) { return gap > 8 * eps * both && gap <= 8 * eps * largest; };
        f.rounded |= beside(apart) || beside(aside);
      }
      if constexpr (kReal)
        if (!alike && f.mirrored) like.learn(static_cast<I>(i));
      const Real d = detail::real_part(own), size = std::abs(own);
      f.positive &= d > 0;
      f.dominant &= d >= sum - 4 * eps * d;
      const Real share = size > 0 ? 1 - sum / size : Real(0);
      if (!(share >= left)) left = share;
      if (!(d > sum * Real(1 + 1e-8) + 4 * eps * d)) {
        f.all_strict = false;
        f.first_strict &= before;
        f.last_strict &= after;
      }
    }
    f.left = left;
    parts[worker] = f;
  });
  detail::RowFindings all;
  for (const auto& p : parts) {
    all.mirrored &= p.mirrored;
    all.symmetric &= p.symmetric;
    all.hermitian &= p.hermitian;
    all.positive &= p.positive;
    all.dominant &= p.dominant;
    all.all_strict &= p.all_strict;
    all.first_strict &= p.first_strict;
    all.last_strict &= p.last_strict;
    all.rounded |= p.rounded;
    all.above += p.above;
    all.below += p.below;
    if (!(p.left >= all.left)) all.left = p.left;
  }
  // Every entry above the diagonal has its mirror image; as many are below.
  if (!all.mirrored || all.above != all.below) return MatrixFlags();
  MatrixFlags flags;
  flags.pattern = true;
  flags.symmetric = all.symmetric;
  flags.hermitian = all.hermitian;
  flags.positive = all.positive;
  flags.rounded = all.rounded;
  flags.left_over = all.left > 0 ? all.left : 0.0;
  if (flags.hermitian && flags.positive && all.dominant) {
    flags.dominant = all.all_strict || all.first_strict || all.last_strict;
    if (!flags.dominant) {
      std::vector<std::uint8_t> strict(n, 0);
      for (std::int64_t i = 0; i < n; ++i) {
        Real d = 0, sum = 0;
        for (I s = crow[i]; s < crow[i + 1]; ++s) {
          if (ccol[s] == static_cast<I>(i)) d = detail::real_part(val[s]);
          else sum += std::abs(val[s]);
        }
        strict[i] = d > sum * Real(1 + 1e-8) + 4 * eps * d;
      }
      flags.dominant = detail::all_reached(crow, ccol, val, n, strict);
    }
  }
  return flags;
}

// Whether a vector of ones, smoothed by `steps` damped Jacobi steps, proves that a symmetric matrix is not positive
// definite: x . A x < -sure x . D x for one of the vectors on the way. Each step is one pass over the matrix, in which
// the vector of the last one is read as what it is over its largest entry.
template <class T, class I>
bool descends(const I* crow, const I* ccol, const T* val, std::int64_t n, int steps, double sure, int threads = 1) {
  struct Part {
    double curvature = 0.0, size = 0.0;
    T largest = 0;
  };
  std::vector<T> x(n, T(1)), y(n);
  T scale = 1;
  for (int step = 0; step <= steps; ++step) {
    std::vector<Part> parts(worker_count(n, threads));
    parallel_for(n, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
      Part p;
      for (std::int64_t i = begin; i < end; ++i) {
        T image = 0, d = 0;
        for (I s = crow[i]; s < crow[i + 1]; ++s) {
          prefetch(val + s);
          image += val[s] * x[ccol[s]];
          d = ccol[s] == static_cast<I>(i) ? val[s] : d;
        }
        image *= scale;
        const T own = x[i] * scale;
        p.curvature += double(own) * double(image);
        p.size += double(own) * double(own) * double(d);
        y[i] = own - image / (2 * d);
        p.largest = std::max(p.largest, std::abs(y[i]));
      }
      parts[worker] = p;
    });
    Part all;
    for (const auto& p : parts) {
      all.curvature += p.curvature;
      all.size += p.size;
      all.largest = std::max(all.largest, p.largest);
    }
    if (all.curvature < -sure * all.size) return true;
    x.swap(y);
    scale = 1 / all.largest;
  }
  return false;
}

// Largest sum of absolute values along a row.
template <class T, class I>
auto largest_row_sum(const I* crow, const T* val, std::int64_t n) {
  using Real = decltype(std::abs(T()));
  Real most = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    Real sum = 0;
    for (I s = crow[i]; s < crow[i + 1]; ++s) sum += std::abs(val[s]);
    if (!(sum <= most) && most == most) most = sum;  // NaN stays
  }
  return most;
}

// Smallest size that is not zero, and largest size, of the values at some slots, those that are not negative: {0, 0}
// where there is none, NaN where one is.
template <class T, class I>
auto size_range(const T* val, const I* slot, std::int64_t n) {
  using Real = decltype(std::abs(T()));
  constexpr Real nothing = std::numeric_limits<Real>::infinity();
  Real low = nothing, high = 0, all = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    if (slot[i] < 0) continue;
    const Real size = std::abs(val[slot[i]]), least = size == Real(0) ? nothing : size;
    low = least < low ? least : low;
    high = size > high ? size : high;
    all += size * Real(0);  // NaN as soon as one is not finite
  }
  if (all != Real(0)) return std::array<Real, 2>{all, all};
  return std::array<Real, 2>{high > 0 ? low : Real(0), high};
}

}  // namespace torch_sla
