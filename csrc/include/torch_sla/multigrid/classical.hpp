// Classical coarsening: a subset of the points is kept, and the others interpolate from it.
//
// Ruge and Stueben, in McCormick (ed.), Multigrid Methods, SIAM 1987, chapter 4. A row depends on a
// column strongly when -a_ij sign(a_ii) >= theta max_k -a_ik sign(a_ii): each row has its own scale, so
// that coefficients may jump from cell to cell.
#pragma once

#include "strength.hpp"

namespace torch_sla::multigrid {

template <class V, class I>
Strength<V, I> classical_strength(const BlockMatrix<V, I>& A, double theta, int threads) {
  Strength<V, I> out;
  out.diagonal = diagonal_slots(A, threads);
  out.strong.resize(A.nnz());
  parallel_for(A.rows, threads_for(A.nnz(), threads), [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const I d = out.diagonal[i];
      const V sign = d >= 0 && A.val[d] < 0 ? V(1) : V(-1);
      V most = 0, sum = 0;
      for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
        if (s == d) continue;
        most = std::max(most, sign * A.val[s]);
        sum += std::abs(A.val[s]);
      }
      const bool alone = d < 0 || !(sum > V(kDecoupled) * std::abs(A.val[d]));
      for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
        const V v = sign * A.val[s];
        out.strong[s] = s != d && !alone && v > 0 && v >= V(kTie * theta) * most;
      }
    }
  });
  return out;
}

// Points sorted by a count that changes by one at a time: a doubly linked list for each value.
template <class I>
class Ranking {
 public:
  explicit Ranking(const std::vector<I>& count) : count_(count), next_(count.size()), before_(count.size()) {
    I most = 0;
    for (const I c : count_) most = std::max(most, c);
    head_.assign(std::size_t(most) + 2, I(-1));
    // Pushed backwards, so that of equal points the first comes first.
    for (I i = static_cast<I>(count_.size()); i-- > 0;) push(i);
    top_ = most;
  }
  I count(I i) const { return count_[i]; }
  // The point with the largest count, or -1 where all of them are zero.
  I best() {
    while (top_ > 0 && head_[top_] < 0) --top_;
    return top_ > 0 ? head_[top_] : I(-1);
  }
  void remove(I i) {
    if (before_[i] >= 0) next_[before_[i]] = next_[i];
    else head_[count_[i]] = next_[i];
    if (next_[i] >= 0) before_[next_[i]] = before_[i];
  }
  void change(I i, I by) {
    if (count_[i] + by < 0) return;
    remove(i);
    count_[i] += by;
    if (static_cast<std::size_t>(count_[i]) >= head_.size()) head_.resize(std::size_t(count_[i]) + 1, I(-1));
    push(i);
    top_ = std::max(top_, count_[i]);
  }

 private:
  void push(I i) {
    I& head = head_[count_[i]];
    next_[i] = head;
    before_[i] = -1;
    if (head >= 0) before_[head] = i;
    head = i;
  }
  std::vector<I> count_, next_, before_, head_;
  I top_ = 0;
};

// Which points are kept: `kept` receives the coarse index of each, -1 for the others. The first pass
// keeps points on which many undecided ones depend; the second makes sure that two strongly coupled
// points that are not kept depend on a common kept one. Returns the number of kept points.
template <class V, class I>
I split(const BlockMatrix<V, I>& A, const Strength<V, I>& S, Buffer<I>& kept) {
  constexpr std::int8_t kOpen = 0, kCoarse = 1, kFine = 2;
  const I n = A.rows;
  std::vector<I> start(std::size_t(n) + 1, 0), from, count(n, 0);
  for (std::int64_t s = 0; s < A.nnz(); ++s)
    if (S.strong[s]) ++count[A.col[s]];
  for (I i = 0; i < n; ++i) start[i + 1] = start[i] + count[i];
  from.resize(start[n]);
  {
    std::vector<I> cursor(start.begin(), start.end() - 1);
    for (I i = 0; i < n; ++i)
      for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s)
        if (S.strong[s]) from[cursor[A.col[s]]++] = i;
  }
  std::vector<std::int8_t> state(n, kOpen);
  Ranking<I> rank(count);
  for (I i = rank.best(); i >= 0; i = rank.best()) {
    state[i] = kCoarse;
    rank.remove(i);
    for (I t = start[i]; t < start[i + 1]; ++t) {
      const I j = from[t];
      if (state[j] != kOpen) continue;
      state[j] = kFine;
      rank.remove(j);
      for (I s = A.ptr[j]; s < A.ptr[j + 1]; ++s)
        if (S.strong[s] && state[A.col[s]] == kOpen) rank.change(A.col[s], 1);
    }
    for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s)
      if (S.strong[s] && state[A.col[s]] == kOpen) rank.change(A.col[s], -1);
  }
  const auto depends = [&](I i) {
    bool strong = false;
    for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
      if (!S.strong[s]) continue;
      strong = true;
      if (state[A.col[s]] == kCoarse) return false;
    }
    return strong;
  };
  // On these nobody depends; they are kept where nothing kept would represent them.
  for (I i = 0; i < n; ++i)
    if (state[i] == kOpen) state[i] = depends(i) ? kCoarse : kFine;
  std::vector<I> mark(n, I(-1));
  for (I i = 0; i < n; ++i) {
    if (state[i] != kFine) continue;
    for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s)
      if (S.strong[s] && state[A.col[s]] == kCoarse) mark[A.col[s]] = i;
    I added = -1;
    for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
      const I j = A.col[s];
      if (!S.strong[s] || state[j] != kFine) continue;
      bool common = false;
      for (I t = A.ptr[j]; t < A.ptr[j + 1] && !common; ++t)
        common = S.strong[t] && mark[A.col[t]] == i;
      if (common) continue;
      if (added >= 0) {  // a second one: i itself is the better choice
        state[added] = kFine;
        state[i] = kCoarse;
        break;
      }
      added = j;
      state[j] = kCoarse;
      mark[j] = i;
    }
  }
  kept.resize(n);
  I total = 0;
  for (I i = 0; i < n; ++i) kept[i] = state[i] == kCoarse ? total++ : I(-1);
  return total;
}

// Row i of the prolongation: its own coarse point, or the kept points it depends on.
template <class V, class I>
BlockMatrix<V, I> classical_pattern(const BlockMatrix<V, I>& A, const Strength<V, I>& S,
                                    const Buffer<I>& kept, I count) {
  BlockMatrix<V, I> P;
  P.rows = A.rows;
  P.cols = count;
  P.own_ptr.resize(static_cast<std::size_t>(A.rows) + 1);
  P.own_ptr[0] = 0;
  P.own_col.reserve(static_cast<std::size_t>(A.rows) * 3);
  for (I i = 0; i < A.rows; ++i) {
    if (kept[i] >= 0) {
      P.own_col.push_back(kept[i]);
    } else {
      for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s)
        if (S.strong[s] && kept[A.col[s]] >= 0) P.own_col.push_back(kept[A.col[s]]);
    }
    P.own_ptr[i + 1] = static_cast<I>(P.own_col.size());
  }
  P.adopt();
  return P;
}

// Interpolation weights. Weak couplings go to the diagonal; a strong coupling to a point that is not
// kept is shared out among the kept points both depend on, in proportion to that point's own couplings.
template <class V, class I>
void classical_values(const BlockMatrix<V, I>& A, const Strength<V, I>& S, const Buffer<I>& kept,
                      BlockMatrix<V, I>& P, int threads) {
  parallel_for(A.rows, threads_for(A.nnz(), threads), [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      const I first = P.ptr[i], last = P.ptr[i + 1], d = S.diagonal[i];
      if (kept[i] >= 0) {
        P.val[first] = V(1);
        continue;
      }
      if (first == last) continue;
      std::fill(P.val.data() + first, P.val.data() + last, V(0));
      const auto place = [&](I g) {
        I t = first;
        while (t < last && P.col[t] != g) ++t;
        return t;
      };
      const V own = A.val[d];
      V diagonal = own;
      for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) {
        if (s == d) continue;
        const V a = A.val[s];
        const I j = A.col[s];
        if (!S.strong[s]) {
          diagonal += a;
          continue;
        }
        if (kept[j] >= 0) {
          P.val[place(kept[j])] += a;
          continue;
        }
        const V other = A.val[S.diagonal[j]];
        V sum = 0;
        const auto shares = [&](I u) { return kept[A.col[u]] >= 0 && A.val[u] * other < V(0); };
        for (I u = A.ptr[j]; u < A.ptr[j + 1]; ++u)
          if (shares(u) && place(kept[A.col[u]]) < last) sum += A.val[u];
        if (sum == V(0)) {
          diagonal += a;
          continue;
        }
        for (I u = A.ptr[j]; u < A.ptr[j + 1]; ++u) {
          if (!shares(u)) continue;
          const I t = place(kept[A.col[u]]);
          if (t < last) P.val[t] += a * (A.val[u] / sum);
        }
      }
      if (!(diagonal * own > V(1e-3) * own * own)) diagonal = own;
      if (diagonal == V(0)) continue;  // a row that new values have left empty
      for (I t = first; t < last; ++t) P.val[t] /= -diagonal;
    }
  });
}

}  // namespace torch_sla::multigrid
