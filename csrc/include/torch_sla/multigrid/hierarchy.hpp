// The set-up of a hierarchy and its refresh: a list of levels, each a plain struct.
#pragma once

#include <memory>

#include "classical.hpp"
#include "coarse.hpp"
#include "galerkin.hpp"
#include "lost.hpp"
#include "scale.hpp"
#include "smoothers.hpp"
#include "transfer.hpp"

namespace torch_sla::multigrid {

enum class Cycle { V, W, K };

struct Options {
  bool classical = false;  // Ruge-Stueben splitting and interpolation instead of aggregates
  double strength = 0.25;
  double damping = 4.0 / 3.0;  // of the smoothing of the transfer, over the spectral radius
  Smoother smoother = Smoother::spai0;
  bool symmetric = true;  // whether blocks of SPAI-0 are made symmetric
  int sweeps = 1;
  Cycle cycle = Cycle::V;
  int coarse_size = 200;  // scalar unknowns below which the level is inverted
  int max_levels = 20;
};

// What decides the next level, and does not change when only numbers do.
template <class V, class I>
struct Coarsening {
  Strength<V, I> links;
  Buffer<I> group;  // aggregate of each row, or coarse index of each kept point; -1 where none
  Buffer<V> T;      // tentative prolongation, empty for constants
  NearNullspace<V> coarse;  // near-nullspace of the next level
  ProductMap product;

  std::size_t bytes() const {
    return bytes_of(links.strong) + bytes_of(links.diagonal) + bytes_of(group) + bytes_of(T) +
           bytes_of(coarse.values) + product.bytes();
  }
};

template <class V, class I>
struct Level {
  BlockMatrix<V, I> A, P;
  Inverses<V, I> M;     // smoother blocks
  double radius = 1.0;  // of D^-1 A, where the smoother or the transfer needs it
  std::shared_ptr<Coarsening<V, I>> how = std::make_shared<Coarsening<V, I>>();
};

template <class V, class I>
struct Hierarchy {
  Options options;
  std::vector<Level<V, I>> levels;
  std::shared_ptr<const NearNullspace<V>> nullspace;  // of the first level, as it was given
  Buffer<V> coarse_inverse;  // [n, n] of the last level, empty where it is only smoothed
  CoarseRank coarse_rank;
  std::vector<std::int64_t> decoupled;  // rows that the near-nullspace leaves out
  double scale = 1.0;  // the levels hold the matrix times this power of two

  std::size_t bytes() const {
    std::size_t total = bytes_of(coarse_inverse) + (nullspace ? bytes_of(nullspace->values) : 0);
    for (const auto& l : levels)
      total += l.A.bytes() + l.P.bytes() + l.M.bytes() + l.how->bytes();
    return total;
  }
};

// The caller's matrix: scalar CSR with sorted columns, borrowed for the life of the hierarchy.
template <class I>
struct Source {
  const I* crow;
  const I* ccol;
  std::int64_t rows;
};

// The pattern of the first level: borrowed for scalars, grouped into b x b blocks otherwise.
template <class V, class I>
void load_pattern(BlockMatrix<V, I>& A, const Source<I>& source, int b) {
  A.rows = A.cols = static_cast<I>(source.rows / b);
  A.br = A.bc = b;
  if (b == 1) {
    A.ptr = source.crow;
    A.col = source.ccol;
    return;
  }
  A.own_ptr.assign(std::size_t(A.rows) + 1, 0);
  A.own_col.reserve(source.crow[source.rows] / (b * b) + 16);
  std::vector<I> found;
  for (I i = 0; i < A.rows; ++i) {
    found.clear();
    for (int r = 0; r < b; ++r) {
      I last = -1;
      for (I s = source.crow[i * b + r]; s < source.crow[i * b + r + 1]; ++s) {
        const I j = source.ccol[s] / b;
        if (j != last) found.push_back(j);
        last = j;
      }
    }
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    A.own_col.insert(A.own_col.end(), found.begin(), found.end());
    A.own_ptr[i + 1] = static_cast<I>(A.own_col.size());
  }
  A.adopt();
}

// Copies the caller's values into the first level, scaled into the middle of the range of V.
template <class T, class V, class I>
void load_values(Hierarchy<V, I>& h, const Source<I>& source, const T* values, int threads) {
  auto& A = h.levels.front().A;
  const std::int64_t count = source.crow[source.rows];
  threads = threads_for(count, threads);
  h.scale = power_scale(values, count, threads);
  const int b = A.br;
  const std::int64_t block = A.block();
  const T scale = T(h.scale);
  A.val.resize(A.nnz() * block);
  if (b == 1) {
    parallel_for(count, threads, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t e = begin; e < end; ++e) A.val[e] = V(values[e] * scale);
    });
    return;
  }
  with_block(b, [&](auto B) {
    constexpr int known = decltype(B)::value;
    const int width = known ? known : b;
    parallel_for(A.rows, threads, [&](std::int64_t begin, std::int64_t end, int) {
      std::fill(A.val.begin() + A.ptr[begin] * block, A.val.begin() + A.ptr[end] * block, V(0));
      for (std::int64_t i = begin; i < end; ++i)
        for (int r = 0; r < width; ++r) {
          I t = A.ptr[i], first = A.ptr[i] < A.ptr[i + 1] ? A.col[t] * width : I(0);
          for (I s = source.crow[i * width + r]; s < source.crow[i * width + r + 1]; ++s) {
            while (source.ccol[s] - first >= width) first = A.col[++t] * width;
            A.val[t * block + r * width + source.ccol[s] - first] = V(values[s] * scale);
          }
        }
    });
  });
}

// Numbers of one level that follow from its matrix.
template <class V, class I>
void prepare_level(Level<V, I>& l, const Options& o, bool transfer, int threads) {
  with_block(l.A.br, [&](auto B) {
    constexpr int b = decltype(B)::value;
    smoother_blocks<b>(l.A, l.how->links.diagonal, o.smoother, o.symmetric, l.M, threads);
    const bool polynomial = o.smoother == Smoother::chebyshev || o.smoother == Smoother::jacobi;
    if (polynomial || (transfer && l.A.br > 1)) {
      Inverses<V, I> inverse;
      const bool own = polynomial || o.smoother == Smoother::gauss_seidel;
      if (!own) smoother_blocks<b>(l.A, l.how->links.diagonal, Smoother::jacobi, o.symmetric, inverse, threads);
      l.radius = spectral_radius<b>(l.A, own ? l.M : inverse, 10, threads);
    }
    double omega = 1.0;
    if (o.smoother == Smoother::jacobi) omega = 4.0 / 3.0 / l.radius;
    // For M-matrices the spectral radius of M A stays below two by itself.
    if (o.smoother == Smoother::spai0 && !(row_bound<b>(l.A, l.M, threads) < kStableBound))
      omega = std::min(1.0, kStableRadius / spectral_radius<b>(l.A, l.M, 10, threads));
    if (omega != 1.0) l.M.scale(V(omega));
  });
}

template <class V, class I>
void prepare_coarsest(Hierarchy<V, I>& h) {
  const auto& A = h.levels.back().A;
  const int b = A.br;
  const int n = static_cast<int>(A.rows) * b;
  std::vector<double> dense(std::size_t(n) * n, 0.0);
  for (I i = 0; i < A.rows; ++i)
    for (I s = A.ptr[i]; s < A.ptr[i + 1]; ++s)
      for (int r = 0; r < b; ++r)
        for (int c = 0; c < b; ++c)
          dense[std::size_t(i * b + r) * n + A.col[s] * b + c] += A.val[(s * b + r) * std::int64_t(b) + c];
  h.coarse_rank = invert_coarsest(dense, n, h.coarse_inverse);
}

template <class V, class I>
void level_transfer(Level<V, I>& l, BlockMatrix<V, I>& C, const Options& o, int level, int threads) {
  with_blocks(l.A.br, l.P.bc, [&](auto B, auto K) {
    constexpr int b = decltype(B)::value, k = decltype(K)::value;
    // A transfer that was given by hand has no aggregates and keeps its values.
    if (!l.how->group.empty()) {
      l.P.val.resize(l.P.nnz() * l.P.block());
      if (o.classical)
        classical_values(l.A, l.how->links, l.how->group, l.P, threads);
      else
        prolongation_values<b, k>(l.A, l.how->links, l.how->group, l.how->T, o.damping, l.radius, l.P, threads);
    }
    if (!C.ptr) l.how->product = product_map(l.A, l.P, C, threads);
    const auto alone = galerkin<b, k>(l.A, l.P, C, l.how->product, threads);
    lift_lost(l.A, l.how->links.diagonal, l.P, l.how->group, l.how->T, C, alone, level);
  });
}

// Scalar rows of a block matrix that are coupled to nothing (constrained components).
template <class V, class I>
std::vector<std::int64_t> decoupled_rows(const BlockMatrix<V, I>& A) {
  std::vector<std::int64_t> out;
  const int b = A.br;
  if (b == 1) return out;
  for (I i = 0; i < A.rows; ++i)
    for (int r = 0; r < b; ++r) {
      bool coupled = false;
      for (I s = A.ptr[i]; s < A.ptr[i + 1] && !coupled; ++s)
        for (int c = 0; c < b; ++c)
          coupled |= A.val[(std::int64_t(s) * b + r) * b + c] != V(0) && (A.col[s] != i || c != r);
      if (!coupled) out.push_back(std::int64_t(i) * b + r);
    }
  return out;
}

// They take no part in smooth error: the near-nullspace vanishes there.
template <class V, class I>
void drop_rows(const BlockMatrix<V, I>& A, const std::vector<std::int64_t>& rows, NearNullspace<V>& nullspace) {
  const int b = A.br, k = nullspace.columns;
  if (rows.empty()) return;
  if (nullspace.values.empty()) {
    nullspace.values.assign(std::int64_t(A.rows) * b * k, V(0));
    for (std::int64_t e = 0; e < std::int64_t(A.rows) * b; ++e) nullspace.values[e * k + e % b] = V(1);
  }
  for (const std::int64_t row : rows)
    std::fill(nullspace.values.data() + row * k, nullspace.values.data() + (row + 1) * k, V(0));
}

// Strong couplings, and the aggregates or kept points that follow from them; returns their number.
template <class V, class I>
I coarsen(const BlockMatrix<V, I>& A, const Options& o, Coarsening<V, I>& how, int threads) {
  if (o.classical) {
    how.links = classical_strength(A, o.strength, threads);
    return split(A, how.links, how.group);
  }
  how.links = strength(A, o.strength, threads);
  return aggregate(A, how.links, how.group);
}

// Builds all levels below the last, whose matrix is in place and whose near-nullspace is given; it may be coarsened
// already, into `found` rows.
template <class V, class I>
void build_on(Hierarchy<V, I>& h, const NearNullspace<V>* nullspace, int threads, I found = -1) {
  const Options& o = h.options;
  while (true) {
    auto& l = h.levels.back();
    const std::int64_t n = std::int64_t(l.A.rows) * l.A.br;
    const bool small = n <= o.coarse_size;
    const bool last = small || static_cast<int>(h.levels.size()) >= o.max_levels;
    I count = 0;
    if (last) l.how->links.diagonal = diagonal_slots(l.A, threads);
    else count = found >= 0 ? found : coarsen(l.A, o, *l.how, threads);
    found = -1;
    const bool stalled = !last && (count == 0 || std::int64_t(count) * nullspace->columns > 0.9 * n);
    prepare_level(l, o, !last && !stalled, threads);
    if (last || stalled) {
      l.how->group = Buffer<I>();
      l.how->links.strong = Buffer<std::uint8_t>();
      if (n <= 4 * std::int64_t(o.coarse_size)) prepare_coarsest(h);
      return;
    }
    auto& how = *l.how;
    how.coarse.columns = nullspace->columns;
    if (!nullspace->values.empty())
      how.coarse = tentative(*nullspace, l.A.br, how.group, count, how.T, threads);
    l.P = o.classical ? classical_pattern(l.A, how.links, how.group, count)
                      : prolongation_pattern(l.A, how.links, how.group, count, nullspace->columns, threads);
    Level<V, I> next;
    level_transfer(l, next.A, h.options, static_cast<int>(h.levels.size()) - 1, threads);
    nullspace = &how.coarse;
    h.levels.push_back(std::move(next));
  }
}

// Builds all levels below the first, whose matrix is in place.
template <class V, class I>
void build(Hierarchy<V, I>& h, NearNullspace<V> nullspace, int threads, I found = -1) {
  h.decoupled = decoupled_rows(h.levels.front().A);
  h.nullspace = std::make_shared<const NearNullspace<V>>(nullspace);
  drop_rows(h.levels.front().A, h.decoupled, nullspace);
  build_on(h, &nullspace, threads, found);
}

// Builds the levels below the first from transfers given by hand.
template <class V, class I>
void build_from(Hierarchy<V, I>& h, std::vector<BlockMatrix<V, I>> transfers, int threads) {
  h.decoupled = decoupled_rows(h.levels.front().A);
  h.nullspace = std::make_shared<const NearNullspace<V>>(NearNullspace<V>{h.levels.front().A.br, {}});
  for (auto& P : transfers) {
    auto& l = h.levels.back();
    l.how->coarse.columns = P.bc;
    l.how->links.diagonal = diagonal_slots(l.A, threads);
    l.P = std::move(P);
    prepare_level(l, h.options, false, threads);
    Level<V, I> next;
    level_transfer(l, next.A, h.options, static_cast<int>(h.levels.size()) - 1, threads);
    h.levels.push_back(std::move(next));
  }
  auto& last = h.levels.back();
  last.how->links.diagonal = diagonal_slots(last.A, threads);
  prepare_level(last, h.options, false, threads);
  if (std::int64_t(last.A.rows) * last.A.br <= 4 * std::int64_t(h.options.coarse_size))
    prepare_coarsest(h);
}

// The patterns, aggregates and transfers of a hierarchy, without the numbers of its matrix.
template <class V, class I>
Hierarchy<V, I> skeleton(const Hierarchy<V, I>& h) {
  Hierarchy<V, I> out;
  out.options = h.options;
  for (const auto& l : h.levels) {
    out.levels.emplace_back();
    auto& copy = out.levels.back();
    copy.A = l.A.skeleton();
    copy.P = l.P.skeleton();
    copy.how = l.how;
    if (l.how->group.empty()) copy.P.val = l.P.val;  // given by hand
  }
  out.nullspace = h.nullspace;
  out.decoupled = h.decoupled;
  out.coarse_inverse.resize(h.coarse_inverse.empty() ? 0 : 1);
  return out;
}

// Builds what follows from other aggregates of level i anew; they may be found already, `count` of them in `how`.
template <class V, class I>
void build_again(Hierarchy<V, I>& h, std::size_t i, std::shared_ptr<Coarsening<V, I>> how, int threads, I count) {
  h.levels.resize(i + 1);
  h.levels[i].P = BlockMatrix<V, I>();
  h.levels[i].how = std::move(how);
  h.coarse_inverse = Buffer<V>();
  if (i > 0) return build_on(h, &h.levels[i - 1].how->coarse, threads, count);
  build(h, NearNullspace<V>(*h.nullspace), threads, count);
}

// New numbers on the same aggregates, patterns and near-nullspace; those of the first level are in
// place. With `check`, the aggregates are found again on the new numbers, and where a level asks for
// other ones, those below it are built anew: the result then equals a new set-up to the last bit.
template <class V, class I>
void refresh(Hierarchy<V, I>& h, int threads, bool check = false) {
  const Options& o = h.options;
  bool known = !check || decoupled_rows(h.levels.front().A) == h.decoupled;
  for (std::size_t i = 0; i < h.levels.size(); ++i) {
    auto& l = h.levels[i];
    const bool last = i + 1 == h.levels.size();
    const bool found = !last && !l.how->group.empty();
    I count = -1;
    if (check && (found || last)) {
      auto again = std::make_shared<Coarsening<V, I>>();
      if (found) {
        count = coarsen(l.A, o, *again, threads);
        known = known && again->links.strong == l.how->links.strong && again->group == l.how->group;
      } else {
        // Where coarsening came to a standstill, new numbers may let it go on.
        known = known && (std::int64_t(l.A.rows) * l.A.br <= o.coarse_size ||
                          static_cast<int>(h.levels.size()) >= o.max_levels);
      }
      if (!known) return build_again(h, i, std::move(again), threads, count);
    }
    prepare_level(l, o, found, threads);
    if (!last) level_transfer(l, h.levels[i + 1].A, o, static_cast<int>(i), threads);
  }
  if (!h.coarse_inverse.empty()) prepare_coarsest(h);
}

}  // namespace torch_sla::multigrid
