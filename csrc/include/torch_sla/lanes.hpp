// Many matrices on one pattern, factorised and solved with in the lanes of registers.
#pragma once

#include <memory>

#include "cholesky_object.hpp"
#include "lane_kernels.hpp"
#include "prefetch.hpp"

namespace torch_sla {

// Factors of `members` matrices, `width` of them interleaved. Made with pivots on the diagonal only; `growth`
// and `error` tell, member by member, how a solve with them went.
template <class T>
struct LaneFactor {
  std::shared_ptr<const Symbolic> symbolic;
  bool symmetric = true;
  std::int64_t members = 0;
  int width = 1;
  Buffer<T> lower, upper;        // [groups][panel entries][width], upper for unsymmetric matrices only
  std::vector<T> lowest;         // [members] smallest pivot
  std::vector<T> growth, error;  // [members] largest entry and backward error of the solve that proves them

  std::int64_t group_entries() const { return symbolic->panel_entries() * width; }
  std::int64_t bytes() const { return (lower.size() + upper.size()) * static_cast<std::int64_t>(sizeof(T)); }
  const T* lower_of(std::int64_t group) const { return lower.data() + group * group_entries(); }
  const T* upper_of(std::int64_t group) const {
    return symmetric ? nullptr : upper.data() + group * group_entries();
  }
};

// The matrix A in compressed rows, and where the analysed pattern finds its values.
struct LanePattern {
  std::int64_t nnz = 0;             // values of A
  const std::int32_t *start, *column;  // of A
  lanes::Places places;
};

namespace detail {

// [width][n] -> [n][width]; rows that are not there repeat the last one.
template <class T>
void interleave(const T* from, std::int64_t rows, std::int64_t n, int width, T* to) {
  constexpr std::int64_t block = 64;
  for (std::int64_t i = 0; i < n; i += block) {
    const std::int64_t end = std::min(n, i + block);
    for (int k = 0; k < width; ++k) {
      const T* row = from + std::min<std::int64_t>(k, rows - 1) * n;
      for (std::int64_t j = i; j < end; ++j) to[j * width + k] = row[j];
    }
  }
}

}  // namespace detail

// Measures of values [members, nnz] in compressed rows, see lanes::measure_body: out [4, members].
template <class T>
void measure_lanes(std::int64_t n, const std::int32_t* start, const std::int32_t* column, const T* values,
                   std::int64_t members, T* out, int threads) {
  const auto& own = lanes::kernels<T>(members == 1);
  const std::int64_t width = own.width, groups = (members + width - 1) / width, nnz = start[n];
  parallel_for(groups, threads, [&](std::int64_t begin, std::int64_t end, int) {
    const Buffer<T> mixed(nnz * width), room(2 * n * width), found(4 * width);
    for (std::int64_t g = begin; g < end; ++g) {
      const std::int64_t count = std::min(width, members - g * width);
      detail::interleave(values + g * width * nnz, count, nnz, own.width, mixed.data());
      own.measure(n, start, column, mixed.data(), room.data(), found.data());
      for (int q = 0; q < 4; ++q)
        std::copy(found.data() + q * width, found.data() + q * width + count, out + q * members + g * width);
    }
  });
}

namespace detail {

// What is measured of a column of r = b - A x, in L parts: as many sums side by side as need not wait for each other.
template <class T, int L = 1>
struct Sizes {
  T r_squares[L] = {}, r[L] = {}, x[L] = {}, b[L] = {}, b_squares[L] = {};

  void meet(int k, T left, T here, T given) {
    r_squares[k] += left * left;
    b_squares[k] += given * given;
    raise(r[k], std::abs(left));
    raise(x[k], std::abs(here));
    raise(b[k], std::abs(given));
  }
  template <int M>
  void join(const Sizes<T, M>& o) {
    for (int k = 0; k < M; ++k) {
      r_squares[0] += o.r_squares[k];
      b_squares[0] += o.b_squares[k];
      raise(r[0], o.r[k]);
      raise(x[0], o.x[k]);
      raise(b[0], o.b[k]);
    }
  }

 private:
  static void raise(T& most, T size) { most = size > most ? size : most; }
};

}  // namespace detail

// b - op(A_i) x_i for every member, [members, n, nrhs] in rows, and of each column of it the 2-norm and the largest
// entry, then the largest entry of x, and the largest entry and 2-norm of b: sizes [5, members, nrhs]. b is met
// last: an x so huge that its products swallow b, and cancel, leaves b over and not zero. Rows are summed in
// chunks of fixed length, so that threads may share a matrix and change no bit; a transposed one is added up
// by one thread, which costs less than turning its values.
template <class T>
void residual_members(std::int64_t n, const std::int32_t* start, const std::int32_t* column, const T* values,
                      const T* x, const T* b, std::int64_t members, Size nrhs, bool transposed, T* r, T* sizes,
                      int threads) {
  constexpr std::int64_t chunk = 4096;
  const std::int64_t nnz = start[n], chunks = (n + chunk - 1) / chunk;
  std::vector<detail::Sizes<T>> part(members * chunks * nrhs);
  // A piece that is in the cache still.
  const auto measure = [&](auto width, std::int64_t k, std::int64_t piece) {
    const std::int64_t begin = k * n + piece * chunk, end = k * n + std::min(n, (piece + 1) * chunk);
    detail::Sizes<T>* found = part.data() + (k * chunks + piece) * nrhs;
    if constexpr (decltype(width)::value == 1) {
      constexpr int beside = 8;
      detail::Sizes<T, beside> sums;
      std::int64_t i = begin;
      for (; i + beside <= end; i += beside)
        for (int q = 0; q < beside; ++q) sums.meet(q, r[i + q], x[i + q], b[i + q]);
      for (; i < end; ++i) sums.meet(0, r[i], x[i], b[i]);
      found->join(sums);
    } else {
      for (std::int64_t i = begin; i < end; ++i)
        for (Size c = 0; c < nrhs; ++c) found[c].meet(0, r[i * nrhs + c], x[i * nrhs + c], b[i * nrhs + c]);
    }
  };
  const auto rows = [&](auto width, std::int64_t k, std::int64_t piece) {
    constexpr int fixed = decltype(width)::value;  // 0: read at run time
    const Size count = fixed ? fixed : nrhs;
    const T *a = values + k * nnz, *y = x + k * n * count;
    for (std::int64_t i = piece * chunk, end = std::min(n, i + chunk); i < end; ++i) {
      T* out = r + (k * n + i) * count;
      const T* given = b + (k * n + i) * count;
      prefetch<4096>(a + start[i]);
      prefetch<4096>(column + start[i]);
      if constexpr (fixed == 1) {
        T sum = 0;
        for (std::int32_t e = start[i]; e < start[i + 1]; ++e) sum += a[e] * y[column[e]];
        out[0] = given[0] - sum;
      } else {
        for (Size c = 0; c < count; ++c) out[c] = 0;
        for (std::int32_t e = start[i]; e < start[i + 1]; ++e) {
          const T v = a[e];
          const T* from = y + static_cast<std::int64_t>(column[e]) * count;
          for (Size c = 0; c < count; ++c) out[c] += v * from[c];
        }
        for (Size c = 0; c < count; ++c) out[c] = given[c] - out[c];
      }
    }
    measure(width, k, piece);
  };
  const auto turned = [&](auto width, std::int64_t k) {
    constexpr int fixed = decltype(width)::value;
    const Size count = fixed ? fixed : nrhs;
    const T *a = values + k * nnz, *y = x + k * n * count, *given = b + k * n * count;
    T* sum = r + k * n * count;
    std::fill(sum, sum + n * count, T(0));
    for (std::int64_t i = 0; i < n; ++i) {
      const T* here = y + i * count;
      prefetch<4096>(a + start[i]);
      prefetch<4096>(column + start[i]);
      for (std::int32_t e = start[i]; e < start[i + 1]; ++e) {
        T* to = sum + static_cast<std::int64_t>(column[e]) * count;
        for (Size c = 0; c < count; ++c) to[c] += a[e] * here[c];
      }
    }
    for (std::int64_t piece = 0; piece < chunks; ++piece) {
      const std::int64_t end = std::min(n, (piece + 1) * chunk) * count;
      for (std::int64_t e = piece * chunk * count; e < end; ++e) sum[e] = given[e] - sum[e];
      measure(width, k, piece);
    }
  };
  const std::int64_t work = transposed ? members : members * chunks;
  parallel_for(work, threads, [&](std::int64_t begin, std::int64_t end, int) {
    const auto run = [&](auto width) {
      for (std::int64_t g = begin; g < end; ++g) {
        if (transposed) turned(width, g);
        else rows(width, g / chunks, g % chunks);
      }
    };
    if (nrhs == 1) run(std::integral_constant<int, 1>());
    else run(std::integral_constant<int, 0>());
  });
  for (std::int64_t k = 0; k < members; ++k)
    for (Size c = 0; c < nrhs; ++c) {
      detail::Sizes<T> sum;
      for (std::int64_t piece = 0; piece < chunks; ++piece) sum.join(part[(k * chunks + piece) * nrhs + c]);
      const bool number = sum.r_squares[0] == sum.r_squares[0];
      const T found[] = {std::sqrt(sum.r_squares[0]), number ? sum.r[0] : sum.r_squares[0], sum.x[0], sum.b[0],
                         std::sqrt(sum.b_squares[0])};
      for (int q = 0; q < 5; ++q) sizes[(q * members + k) * nrhs + c] = found[q];
    }
}

// Entries of working memory that each thread needs.
inline std::int64_t lane_entries(const Symbolic& s, std::int64_t nnz, bool symmetric, int width) {
  std::int64_t panel = 0;
  for (std::int32_t a = 0; symmetric && a < s.supernodes(); ++a)
    panel = std::max(panel, s.panel[a + 1] - s.panel[a]);
  return (nnz + panel + s.stack[0] + s.stack[1] + 3 * static_cast<std::int64_t>(s.n)) * width;
}

// Factorises values [members, nnz] and solves with `probe` [n] to prove the factors.
template <class T>
LaneFactor<T> factorize_lanes(std::shared_ptr<const Symbolic> symbolic, const LanePattern& pattern, const T* values,
                              std::int64_t members, bool symmetric, const T* probe, int threads) {
  const Symbolic& s = *symbolic;
  const auto& own = lanes::kernels<T>(members == 1);
  LaneFactor<T> f;
  f.symbolic = std::move(symbolic);
  f.symmetric = symmetric;
  f.members = members;
  f.width = own.width;
  const std::int64_t width = own.width, groups = (members + width - 1) / width;
  f.lower = Buffer<T>(groups * f.group_entries());
  if (!symmetric) f.upper = Buffer<T>(groups * f.group_entries());
  for (auto* list : {&f.lowest, &f.growth, &f.error}) list->assign(groups * width, T(0));
  std::fill(f.lowest.begin(), f.lowest.end(), std::numeric_limits<T>::infinity());
  std::int64_t panel = 0;
  for (std::int32_t a = 0; a < s.supernodes(); ++a) panel = std::max(panel, s.panel[a + 1] - s.panel[a]);
  parallel_for(groups, threads, [&](std::int64_t begin, std::int64_t end, int) {
    const Buffer<T> mixed(pattern.nnz * width), scratch(symmetric ? panel * width : 0);
    const Buffer<T> stacks[2] = {Buffer<T>(s.stack[0] * width), Buffer<T>(s.stack[1] * width)};
    const Buffer<T> work(s.n * width), x(s.n * width), b(s.n * width);
    std::vector<T*> update_of(s.supernodes());
    for (std::int64_t i = 0; i < s.n; ++i) std::fill(b.data() + i * width, b.data() + (i + 1) * width, probe[i]);
    for (std::int64_t g = begin; g < end; ++g) {
      check_interrupt();
      detail::interleave(values + g * width * pattern.nnz, std::min(width, members - g * width), pattern.nnz,
                         own.width, mixed.data());
      T* lower = f.lower.data() + g * f.group_entries();
      T* upper = symmetric ? nullptr : f.upper.data() + g * f.group_entries();
      const lanes::Group<T> group{mixed.data(),
                                  lower,
                                  symmetric ? scratch.data() : upper,
                                  {stacks[0].data(), stacks[1].data()},
                                  update_of.data(),
                                  f.lowest.data() + g * width};
      (symmetric ? own.symmetric : own.general)(s, pattern.places, group);
      for (std::int64_t j = 0; j < s.n; ++j)
        std::copy(b.data() + s.order[j] * width, b.data() + (s.order[j] + std::int64_t{1}) * width,
                  work.data() + j * width);
      own.solve_one(s, lower, upper, false, work.data());
      for (std::int64_t j = 0; j < s.n; ++j)
        std::copy(work.data() + j * width, work.data() + (j + 1) * width, x.data() + s.order[j] * width);
      own.judge(s.n, pattern.start, pattern.column, mixed.data(), x.data(), b.data(), f.growth.data() + g * width,
                f.error.data() + g * width);
    }
  });
  return f;
}

// The matrices themselves, and where it goes what solutions leave over.
template <class T>
struct LaneCheck {
  const std::int32_t *start, *column;
  const T* values;  // [listed, nnz]
  bool transposed;  // b - A^T x, whatever was solved
  T* sizes;         // [5, listed, nrhs], see residual_members
};

namespace detail {

// Calls move(at, lane) for entries of [listed, n, nrhs] and their places in packs [n][most][width] of one group:
// `count` columns from `begin` on of the members [first, last) of the list. Fixed: nrhs, where that is known.
template <int Fixed, class Move>
void each_in_lanes(const std::vector<std::int64_t>& listed, std::int64_t first, std::int64_t last, std::int64_t n,
                   Size nrhs, Size begin, Size count, Size most, std::int64_t width, const Move& move) {
  constexpr std::int64_t block = 64;
  for (std::int64_t from = 0; from < n; from += block)
    for (std::int64_t k = first; k < last; ++k) {
      const std::int64_t lane = listed[k] % width, end = std::min(n, from + block);
      if constexpr (Fixed == 1) {
        for (std::int64_t j = from; j < end; ++j) move(k * n + j, j * width + lane);
      } else {
        for (std::int64_t j = from; j < end; ++j)
          for (Size c = 0; c < count; ++c) move((k * n + j) * nrhs + begin + c, (j * most + c) * width + lane);
      }
    }
}

}  // namespace detail

// op(A_i) x_i = b_i for the members listed, ascending: b and x are [listed, n, nrhs] in rows. With `check` what is left
// over is measured group by group, while solutions are in the cache.
template <class T>
void solve_lanes(const LaneFactor<T>& f, const std::vector<std::int64_t>& listed, const T* b, T* x, Size nrhs,
                 bool transposed, int threads, const LaneCheck<T>* check = nullptr) {
  const Symbolic& s = *f.symbolic;
  const auto& own = lanes::kernels<T>(f.width == 1);
  const std::int64_t width = f.width, n = s.n, nnz = check ? check->start[n] : 0;
  const std::int64_t all = static_cast<std::int64_t>(listed.size());
  // Where each group's members begin in the list.
  std::vector<std::int64_t> first;
  for (std::int64_t k = 0; k < all; ++k)
    if (k == 0 || listed[k] / width != listed[k - 1] / width) first.push_back(k);
  const std::int64_t groups = static_cast<std::int64_t>(first.size());
  first.push_back(all);
  const auto run = [&](auto columns, std::int64_t begin, std::int64_t end) {
    constexpr int fixed = decltype(columns)::value;
    constexpr Size most = fixed == 1 ? 1 : 4;
    const Size pack = most * width;  // of all columns in one row
    const Buffer<T> work(n * pack), given(n * pack), found(n * pack), mixed(nnz * width), sizes(5 * pack);
    for (const auto* room : {&given, &mixed}) std::fill(room->data(), room->data() + room->size(), T(0));
    for (std::int64_t q = begin; q < end; ++q) {
      const std::int64_t g = listed[first[q]] / width;
      const auto each = [&](auto kind, std::int64_t rows, Size c, Size count, const auto& move) {
        detail::each_in_lanes<decltype(kind)::value>(listed, first[q], first[q + 1], rows, nrhs, c, count, most, width,
                                                     move);
      };
      if (check)
        each(std::integral_constant<int, 1>(), nnz, 0, 1,
             [&](std::int64_t at, std::int64_t lane) { mixed.data()[lane] = check->values[at]; });
      for (Size c = 0; c < nrhs; c += most) {
        const Size count = std::min(most, nrhs - c);
        each(columns, n, c, count, [&](std::int64_t at, std::int64_t lane) { given.data()[lane] = b[at]; });
        for (std::int64_t j = 0; j < n; ++j)
          std::copy_n(given.data() + s.order[j] * pack, pack, work.data() + j * pack);
        (most == 1 ? own.solve_one : own.solve_four)(s, f.lower_of(g), f.upper_of(g), transposed, work.data());
        for (std::int64_t j = 0; j < n; ++j)
          std::copy_n(work.data() + j * pack, pack, found.data() + s.order[j] * pack);
        each(columns, n, c, count, [&](std::int64_t at, std::int64_t lane) { x[at] = found.data()[lane]; });
        if (!check) continue;
        (most == 1 ? own.residual_one : own.residual_four)(n, check->start, check->column, mixed.data(),
                                                           check->transposed, found.data(), given.data(), work.data(),
                                                           sizes.data());
        for (std::int64_t k = first[q]; k < first[q + 1]; ++k)
          for (Size m = 0; m < 5; ++m)
            for (Size r = 0; r < count; ++r) {
              const T size = sizes.data()[(m * most + r) * width + listed[k] % width];
              check->sizes[(m * all + k) * nrhs + c + r] = m == 0 || m == 4 ? std::sqrt(size) : size;
            }
      }
    }
  };
  parallel_for(groups, threads, [&](std::int64_t begin, std::int64_t end, int) {
    if (nrhs == 1) run(std::integral_constant<int, 1>(), begin, end);
    else run(std::integral_constant<int, 0>(), begin, end);
  });
}

// The factor of one member of a symmetric batch by itself: L L^T where all its pivots are to be positive, else
// L D L^T.
template <class T>
Factor<T> extract_lane(const LaneFactor<T>& f, std::int64_t member, bool positive) {
  const Symbolic& s = *f.symbolic;
  Factor<T> out;
  out.symbolic = f.symbolic;
  out.kind = positive ? Kind::cholesky : Kind::hermitian;
  out.panels = Buffer<T>(s.panel_entries());
  const std::int64_t width = f.width;
  const T* from = f.lower_of(member / width) + member % width;
  if (!positive) {
    out.pivot.resize(s.n);
    out.width.assign(s.n, 1);
    out.diagonal.resize(s.n);
    out.coupling.assign(s.n, T(0));
  }
  for (std::int32_t a = 0; a < s.supernodes(); ++a)
    for (std::int32_t j = 0; j < s.columns(a); ++j) {
      const Size rows = s.rows(a), start = s.panel[a] + j * rows;
      const T pivot = T(1) / from[(start + j) * width], root = positive ? std::sqrt(pivot) : T(1);
      T* column = out.panels.data() + start;
      std::fill(column, column + j, T(0));
      column[j] = root;
      for (Size i = j + 1; i < rows; ++i) column[i] = from[(start + i) * width] * root;
      if (!positive) {
        out.pivot[s.first[a] + j] = j;
        out.diagonal[s.first[a] + j] = pivot;
      }
    }
  return out;
}

// log|det A| and the sign of det A of one member.
template <class T>
std::pair<double, double> lane_determinant(const LaneFactor<T>& f, std::int64_t member) {
  const Symbolic& s = *f.symbolic;
  const T* from = f.lower_of(member / f.width) + member % f.width;
  double log = 0, sign = 1;
  for (std::int32_t a = 0; a < s.supernodes(); ++a)
    for (std::int64_t j = 0; j < s.columns(a); ++j) {
      const double inverse = static_cast<double>(from[(s.panel[a] + j * s.rows(a) + j) * f.width]);
      log -= std::log(std::abs(inverse));
      if (inverse < 0) sign = -sign;
    }
  return {log, sign};
}

}  // namespace torch_sla
