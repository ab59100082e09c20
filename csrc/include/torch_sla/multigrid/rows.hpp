// The caller's matrix, as Krylov methods read it.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "matrix.hpp"

namespace torch_sla::multigrid {

constexpr std::int64_t kChunk = 1024;

inline double power_of_two_below(double norm) {
  if (!(norm > 0.0) || !std::isfinite(norm)) return 1.0;
  int exponent = 0;
  std::frexp(norm, &exponent);
  return std::ldexp(1.0, -exponent);
}

// Where the entries of rows on a lattice lie, relative to the row: inside a line of the lattice no column needs
// to be read.
struct Offsets {
  std::int64_t line = 0;  // points along the fastest axis
  int count = 0;          // the most entries that a row has
  std::array<std::int64_t, 27> offset{};  // increasing

  std::int64_t reach() const { return std::max(-offset[0], offset[count - 1]); }
  // Whether full rows of another pattern have their entries there as well.
  template <class I>
  bool hold(const I* ptr, const I* col, std::int64_t n) const {
    for (std::int64_t i = 0; i < n; ++i) {
      if (ptr[i + 1] - ptr[i] < count) continue;
      if (ptr[i + 1] - ptr[i] > count) return false;
      for (int k = 0; k < count; ++k)
        if (std::int64_t(col[ptr[i] + k]) - i != offset[k]) return false;
    }
    return true;
  }
};

// Several sums, zero at first.
template <class S, int Count>
struct Totals : std::array<S, Count> {
  Totals() { this->fill(S(0.0)); }
  Totals& operator+=(const Totals& other) {
    for (int k = 0; k < Count; ++k) (*this)[k] += other[k];
    return *this;
  }
};

// A square scalar CSR matrix of the caller, and the passes the methods below are made of.
template <class T, class I>
struct Rows {
  const I* ptr;
  const I* col;
  const T* val;
  std::int64_t n;
  int threads;
  const Offsets* lattice = nullptr;

  // Calls f(i, (A x)_i, sums) for some rows, in order; an element of x is a number, or several side by side.
  template <class X, class All, class F>
  void each(const X* x, std::int64_t begin, std::int64_t end, All& sums, F&& f) const {
    if (!lattice) return read(x, begin, end, sums, f);
    const std::int64_t n0 = lattice->line, count = lattice->count;
    for (std::int64_t i = begin; i < end;) {
      const std::int64_t start = i / n0 * n0, stop = std::min(end, start + n0);
      const std::int64_t first = std::max(i, start + 1), last = std::min(end, start + n0 - 1);
      // No row has more than `count` entries: if all have as many together, each has one at every offset.
      if (first < last && std::int64_t(ptr[last]) - ptr[first] == count * (last - first)) {
        read(x, i, first, sums, f);
        switch (count) {
          case 5: inside<5>(x, first, last, sums, f); break;
          case 7: inside<7>(x, first, last, sums, f); break;
          case 9: inside<9>(x, first, last, sums, f); break;
          case 27: inside<27>(x, first, last, sums, f); break;
          default: inside<0>(x, first, last, sums, f);
        }
        read(x, last, stop, sums, f);
      } else {
        read(x, i, stop, sums, f);
      }
      i = stop;
    }
  }
  // The sums are those of the loop while it runs, which keeps them out of memory.
  template <class X, class All, class F>
  void read(const X* x, std::int64_t begin, std::int64_t end, All& sums, F&& f) const {
    All own = sums;
    for (std::int64_t i = begin; i < end; ++i) {
      X acc = T(0);
      for (I s = ptr[i], last = ptr[i + 1]; s < last; ++s) acc += val[s] * x[col[s]];
      f(i, acc, own);
    }
    sums = own;
  }
  template <int Count, class X, class All, class F>
  void inside(const X* x, std::int64_t begin, std::int64_t end, All& sums, F&& f) const {
    const int count = Count ? Count : lattice->count;
    std::array<std::int64_t, Count ? Count : 27> offset;
    std::copy(lattice->offset.begin(), lattice->offset.begin() + count, offset.begin());
    const T* v = val + ptr[begin];
    All own = sums;
    for (std::int64_t i = begin; i < end; ++i, v += count) {
      for (int k = 0; k < count; k += 64 / sizeof(T)) prefetch(v + k);
      X acc = T(0);
      for (int k = 0; k < count; ++k) acc += v[k] * x[i + offset[k]];
      f(i, acc, own);
    }
    sums = own;
  }

  // y = A x, handing each row's result to f(i, y_i, sums); returns the sums over all rows.
  template <int Sums, class X, class F>
  std::array<Sum<X>, Sums> multiply(const X* x, X* y, F&& f) const {
    return multiply_after<Sums>([](std::int64_t, std::int64_t) {}, x, y, f);
  }
  // The same for an x whose rows first(begin, end) makes: on a lattice as soon as they are there, so that x is
  // still in cache. Rows that another worker's x reaches wait until all are done.
  template <int Sums, class X, class First, class F>
  std::array<Sum<X>, Sums> multiply_after(First&& first, const X* x, X* y, F&& f) const {
    return gather_after<Totals<Sum<X>, Sums>>(first, x, y, f);
  }
  // The same for whatever can be added up and is nothing at first.
  template <class All, class X, class First, class F>
  All gather_after(First&& first, const X* x, X* y, F&& f) const {
    constexpr std::int64_t chunk = kChunk * sizeof(T) / sizeof(X);
    All none;
    const std::int64_t reach = lattice ? lattice->reach() : n;
    const int workers = worker_count(n, threads);
    std::vector<All> part(workers + 1, none);
    const auto some = [&](std::int64_t begin, std::int64_t end, All& out) {
      each(x, begin, end, out, [&](std::int64_t i, const X& ax, All& sums) { y[i] = f(i, ax, sums); });
    };
    // The rows of worker w whose neighbours are its own.
    const auto own = [&](int w) {
      const std::int64_t begin = part_begin(n, workers, w), end = part_begin(n, workers, w + 1);
      const std::int64_t low = w == 0 ? 0 : std::min(end, begin + reach);
      return std::pair<std::int64_t, std::int64_t>(low, w + 1 == workers ? n : std::max(low, end - reach));
    };
    parallel_for(n, threads, [&](std::int64_t begin, std::int64_t end, int w) {
      const auto [low, high] = own(w);
      std::int64_t done = low;
      for (std::int64_t from = begin; from < end; from += chunk) {
        const std::int64_t to = std::min(end, from + chunk), ready = to == n ? n : std::min(high, to - reach);
        first(from, to);
        if (ready <= done) continue;
        some(done, ready, part[w]);
        done = ready;
      }
    });
    if (lattice) {
      for (int w = 0; w + 1 < workers; ++w) some(own(w).second, own(w + 1).first, part[workers]);
    } else if (workers > 1) {
      parallel_for(n, threads, [&](std::int64_t begin, std::int64_t end, int w) { some(begin, end, part[w]); });
    }
    for (const auto& p : part) none += p;
    return none;
  }
  // r = b - A x; returns its norm.
  double residual(const T* b, const T* x, T* r) const {
    const auto sums = multiply<1>(x, r, [&](std::int64_t i, T ax, std::array<double, 1>& s) {
      const T v = b[i] - ax;
      s[0] += double(v) * double(v);
      return v;
    });
    return std::sqrt(sums[0]);
  }
  // Calls f(begin, end, sums) for chunks of rows; returns the sums.
  template <int Sums, class F>
  std::array<double, Sums> sweep(F&& f) const {
    const int workers = worker_count(n, threads);
    std::vector<std::array<double, Sums>> part(workers);
    parallel_for(n, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
      std::array<double, Sums> sums{};
      for (std::int64_t from = begin; from < end; from += kChunk) f(from, std::min(end, from + kChunk), sums);
      part[worker] = sums;
    });
    std::array<double, Sums> total{};
    for (const auto& p : part)
      for (int k = 0; k < Sums; ++k) total[k] += p[k];
    return total;
  }
  double norm(const T* x) const {
    return std::sqrt(sweep<1>([&](std::int64_t from, std::int64_t to, std::array<double, 1>& s) {
      for (std::int64_t e = from; e < to; ++e) s[0] += double(x[e]) * double(x[e]);
    })[0]);
  }
  // z = M v; `scale`, a power of two, brings v into the range of the cycle.
  template <class Runner>
  void precondition(Runner& M, const T* v, double scale, T* z) const {
    auto* f = M.rhs();
    using V = std::decay_t<decltype(*f)>;
    const int b = M.block();
    parallel_for(n / b, threads, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t from = begin; from < end; from += kChunk) {
        const std::int64_t to = std::min(end, from + kChunk);
        for (std::int64_t e = from * b; e < to * b; ++e) f[e] = V(v[e] * T(scale));
        M.stage(from, to);
      }
    });
    M.run();
    const V* x = M.result();
    const T back = T(1.0 / scale);
    parallel_for(n, threads, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t e = begin; e < end; ++e) z[e] = T(x[e]) * back;
    });
  }
};

}  // namespace torch_sla::multigrid
