// Galerkin product A_c = P^T A P, in two phases: where its terms go, once for a pattern, and their sums.
//
// A row of A P has few entries, and so has a row of A_c: the places of all terms inside their rows fit a
// byte each. With them the sums look nothing up, and a row of A P lives in cache only.
#pragma once

#include <algorithm>
#include <limits>
#include <variant>

#include "block_packs.hpp"
#include "matrix.hpp"

namespace torch_sla::multigrid {

// The columns of a row under construction, in the order in which they came. A column is present when its
// recorded place holds it, so that nothing is cleared between rows.
template <class I>
class ColumnSet {
 public:
  explicit ColumnSet(I columns) : place_(columns, I(0)), col_(64) {}
  void clear() { count_ = 0; }
  I count() const { return count_; }
  const I* begin() const { return col_.data(); }
  const I* end() const { return col_.data() + count_; }
  I add(I c) {
    const I at = place_[c];
    if (at < count_ && col_[at] == c) return at;
    if (static_cast<std::size_t>(count_) == col_.size()) col_.resize(2 * col_.size());
    place_[c] = count_;
    col_[count_] = c;
    return count_++;
  }

 private:
  Buffer<I> place_, col_;
  I count_ = 0;
};

// The places of the terms, row after row of A: of each a_ij p_jJ in the row of A P, whose number of entries is
// `width`; and of each p_iI (A P)_iJ, `width` of them for each I, in row I of A_c. Of `kStride` rows, the first
// one knows where it starts.
constexpr std::int64_t kStride = 16;
template <class W>
struct PlacesOf {
  Buffer<W> width;                       // [rows]
  Buffer<W> left, right;                 // of the terms
  Buffer<std::int64_t> at_left, at_right;  // [rows / kStride + 1]
  std::int64_t widest = 0;

  std::size_t bytes() const {
    return bytes_of(width) + bytes_of(left) + bytes_of(right) + bytes_of(at_left) + bytes_of(at_right);
  }
};

struct ProductMap {
  std::variant<PlacesOf<std::uint8_t>, PlacesOf<std::uint16_t>, PlacesOf<std::uint32_t>> places;
  std::size_t bytes() const {
    return std::visit([](const auto& p) { return p.bytes(); }, places);
  }
};

// Joins what workers found for consecutive rows: `length[i + 1]` entries of row i, turned into pointers.
template <class I>
void join_rows(Buffer<I>& length, std::vector<Buffer<I>>& found, Buffer<I>& col) {
  length[0] = 0;
  std::int64_t total = 0;
  for (std::size_t i = 1; i < length.size(); ++i) {
    total += length[i];
    if (total > std::numeric_limits<I>::max())
      throw std::length_error("a coarse matrix has more entries than its index type can count");
    length[i] = static_cast<I>(total);
  }
  col.resize(total);
  std::int64_t at = 0;
  for (auto& some : found) {
    std::copy(some.begin(), some.end(), col.begin() + at);
    at += static_cast<std::int64_t>(some.size());
    Buffer<I>().swap(some);
  }
}

// Terms of row i of A P.
template <class V, class I>
std::int64_t terms_of(const BlockMatrix<V, I>& A, const BlockMatrix<V, I>& P, std::int64_t i) {
  std::int64_t terms = 0;
  for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s) terms += P.ptr[A.col[s] + 1] - P.ptr[A.col[s]];
  return terms;
}

// Finds the pattern of C and the places of all terms; false where a row is too long for W.
template <class W, class V, class I>
bool find_places(const BlockMatrix<V, I>& A, const BlockMatrix<V, I>& P, BlockMatrix<V, I>& C, PlacesOf<W>& out,
                 int threads) {
  constexpr std::int64_t most = std::numeric_limits<W>::max();
  const std::int64_t n = A.rows, groups = (n + kStride - 1) / kStride;
  threads = threads_for(A.nnz(), threads);
  const auto sums = [](Buffer<std::int64_t>& at) {
    at[0] = 0;
    for (std::size_t g = 1; g < at.size(); ++g) at[g] += at[g - 1];
  };
  out.at_left.resize(groups + 1);
  parallel_for(groups, threads, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t g = begin; g < end; ++g) {
      out.at_left[g + 1] = 0;
      for (std::int64_t i = g * kStride; i < std::min(n, (g + 1) * kStride); ++i) out.at_left[g + 1] += terms_of(A, P, i);
    }
  });
  sums(out.at_left);
  out.left.resize(out.at_left[groups]);

  // Rows of A P. The columns of each worker stay where they are found; room that is not used costs nothing.
  const int workers = worker_count(groups, threads);
  std::vector<Buffer<I>> cols(workers);
  std::vector<std::int64_t> widest(workers, 0);
  out.width.resize(n);
  out.at_right.resize(groups + 1);
  Buffer<std::int64_t> at_col(groups + 1);
  parallel_for(groups, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
    ColumnSet<I> row(P.cols);
    Buffer<I>& found = cols[worker];
    found.reserve(out.at_left[end] - out.at_left[begin]);
    W* to = out.left.data() + out.at_left[begin];
    for (std::int64_t g = begin; g < end; ++g) {
      check_interrupt();
      std::int64_t right = 0;
      at_col[g] = static_cast<std::int64_t>(found.size());
      for (std::int64_t i = g * kStride; i < std::min(n, (g + 1) * kStride); ++i) {
        row.clear();
        for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s)
          for (I j = A.col[s], u = P.ptr[j]; u < P.ptr[j + 1]; ++u) *to++ = static_cast<W>(row.add(P.col[u]));
        found.insert(found.end(), row.begin(), row.end());
        out.width[i] = static_cast<W>(row.count());
        widest[worker] = std::max<std::int64_t>(widest[worker], row.count());
        right += std::int64_t(P.ptr[i + 1] - P.ptr[i]) * row.count();
      }
      out.at_right[g + 1] = right;
    }
  });
  out.widest = *std::max_element(widest.begin(), widest.end());
  if (out.widest > most) return false;
  sums(out.at_right);
  out.right.resize(out.at_right[groups]);

  // Rows of C, the diagonal first. An entry of P^T knows where the columns of its row and the places of its terms are.
  struct Entry {
    const I* cols;
    W* places;
    I width;
  };
  Buffer<I> ptr(std::size_t(P.cols) + 2, I(0));
  Buffer<Entry> R(P.nnz());
  for (std::int64_t u = 0; u < P.nnz(); ++u) ++ptr[P.col[u] + 2];
  for (I c = 0; c < P.cols; ++c) ptr[c + 2] += ptr[c + 1];
  for (int worker = 0; worker < workers; ++worker)
    for (std::int64_t g = part_begin(groups, workers, worker); g < part_begin(groups, workers, worker + 1); ++g) {
      const I* from = cols[worker].data() + at_col[g];
      W* to = out.right.data() + out.at_right[g];
      for (std::int64_t i = g * kStride; i < std::min(n, (g + 1) * kStride); from += out.width[i++])
        for (I u = P.ptr[i]; u < P.ptr[i + 1]; ++u, to += out.width[i])
          R[ptr[P.col[u] + 1]++] = {from, to, static_cast<I>(out.width[i])};
    }
  C.rows = C.cols = P.cols;
  C.br = C.bc = P.bc;
  C.own_ptr.resize(std::size_t(C.rows) + 1);
  const int owners = worker_count(C.rows, threads);
  std::vector<Buffer<I>> found(owners);
  std::vector<std::int64_t> longest(owners, 0);
  parallel_for(C.rows, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
    ColumnSet<I> row(P.cols);
    for (std::int64_t c = begin; c < end; ++c) {
      row.clear();
      row.add(static_cast<I>(c));
      for (I t = ptr[c]; t < ptr[c + 1]; ++t)
        for (I m = 0; m < R[t].width; ++m) R[t].places[m] = static_cast<W>(row.add(R[t].cols[m]));
      longest[worker] = std::max<std::int64_t>(longest[worker], row.count() - 1);
      found[worker].insert(found[worker].end(), row.begin(), row.end());
      C.own_ptr[c + 1] = row.count();
    }
  });
  if (*std::max_element(longest.begin(), longest.end()) > most) return false;
  join_rows(C.own_ptr, found, C.own_col);
  C.adopt();
  return true;
}

// The pattern of P^T A P and the places of its terms.
template <class V, class I>
ProductMap product_map(const BlockMatrix<V, I>& A, const BlockMatrix<V, I>& P, BlockMatrix<V, I>& C, int threads) {
  ProductMap out;
  if (!find_places(A, P, C, out.places.template emplace<0>(), threads) &&
      !find_places(A, P, C, out.places.template emplace<1>(), threads))
    find_places(A, P, C, out.places.template emplace<2>(), threads);
  return out;
}

// The values of C = P^T A P. Each worker owns rows of C and takes the rows of A that reach them, in order:
// sums do not depend on the number of threads. Returns the rows of C that are coupled to no others.
template <int B, int K, class V, class I>
std::vector<I> galerkin(const BlockMatrix<V, I>& A, const BlockMatrix<V, I>& P, BlockMatrix<V, I>& C,
                        const ProductMap& map, int threads) {
  const int b = B ? B : A.br, k = K ? K : P.bc;
  const std::int64_t bb = std::int64_t(b) * b, bk = std::int64_t(b) * k, kk = std::int64_t(k) * k;
  threads = threads_for(A.nnz() * bk, threads);
  C.val.resize(C.nnz() * kk);
  std::vector<std::vector<I>> alone(worker_count(C.rows, threads));
  std::visit([&](const auto& places) {
    parallel_for(C.rows, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
      std::fill(C.val.begin() + C.ptr[begin] * kk, C.val.begin() + C.ptr[end] * kk, V(0));
      const bool all = begin == 0 && end == C.rows;
      const auto owned = [&](I c) { return all || (c >= begin && c < end); };
      Buffer<V> row(places.widest * bk);
      for (std::int64_t g = 0; g * kStride < A.rows; ++g) {
        check_interrupt();
        const std::int64_t until = std::min<std::int64_t>(A.rows, (g + 1) * kStride);
        if (!all && std::none_of(P.col + P.ptr[g * kStride], P.col + P.ptr[until], owned)) continue;
        const auto *left = places.left.data() + places.at_left[g], *right = places.right.data() + places.at_right[g];
        for (std::int64_t i = g * kStride; i < until; ++i) {
          const I first = P.ptr[i], last = P.ptr[i + 1];
          const std::int64_t width = places.width[i];
          if (std::none_of(P.col + first, P.col + last, owned)) {
            left += terms_of(A, P, i);
            right += (last - first) * width;
            continue;
          }
          std::fill(row.begin(), row.begin() + width * bk, V(0));
          for (I s = A.ptr[i], stop = A.ptr[i + 1]; s < stop; ++s) {
            const auto a = block_product<B, B, K, false>(A.val.data() + s * bb, b, b, k);
            for (I j = A.col[s], u = P.ptr[j], past = P.ptr[j + 1]; u < past; ++u)
              a.add(P.val.data() + u * bk, row.data() + *left++ * bk);
          }
          for (I u = first; u < last; ++u, right += width) {
            if (!owned(P.col[u])) continue;
            V* to = C.val.data() + C.ptr[P.col[u]] * kk;
            const auto p = block_product<K, B, K, true>(P.val.data() + u * bk, k, b, k);
            for (std::int64_t m = 0; m < width; ++m) p.add(row.data() + m * bk, to + right[m] * kk);
          }
        }
      }
      for (std::int64_t g = begin; g < end; ++g) {
        const V *other = C.val.data() + (C.ptr[g] + 1) * kk, *last = C.val.data() + C.ptr[g + 1] * kk;
        if (std::all_of(other, last, [](V v) { return v == V(0); })) alone[worker].push_back(static_cast<I>(g));
        // A near-nullspace vector that vanishes on an aggregate leaves an empty coarse row: an identity
        // row keeps it harmless.
        V* D = C.val.data() + C.ptr[g] * kk;
        for (int c = 0; k > 1 && c < k; ++c)
          if (D[c * k + c] == V(0)) D[c * k + c] = V(1);
      }
    });
  }, map.places);
  for (std::size_t w = 1; w < alone.size(); ++w) alone[0].insert(alone[0].end(), alone[w].begin(), alone[w].end());
  return alone[0];
}

}  // namespace torch_sla::multigrid
