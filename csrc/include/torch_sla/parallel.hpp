// Parallel loops over a static partition.
//
// Threads are started and joined by each region: nothing spins between regions, nothing is left to
// survive (or hang in) a fork, and the same number of threads always cuts the range at the same
// places, so that results repeat to the last bit. Starting a thread costs about 10-20 microseconds;
// callers ask for one thread when the work is shorter than that.
#pragma once

#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

#include "interrupt.hpp"

namespace torch_sla {

// First index of part `part` when [0, n) is cut into `parts` pieces of nearly equal length.
inline std::int64_t part_begin(std::int64_t n, int parts, int part) {
  const std::int64_t quotient = n / parts, rest = n % parts;
  return quotient * part + (part < rest ? part : rest);
}

// Number of workers that `parallel_for` uses for n items.
inline int worker_count(std::int64_t n, int threads) {
  if (threads < 1) threads = 1;
  if (n < threads) threads = n < 1 ? 1 : static_cast<int>(n);
  return threads;
}

// Calls run(worker) for worker = 0 .. workers-1, each on a thread of its own (worker 0 on the
// caller's), and returns when all have ended. The first exception, in worker order, is rethrown.
template <class F>
void parallel_run(int workers, F&& run) {
  check_interrupt();
  if (workers <= 1) {
    run(0);
    return;
  }
  std::vector<std::exception_ptr> failures(workers);
  const auto guarded = [&](int worker) {
    try {
      run(worker);
    } catch (...) {
      failures[worker] = std::current_exception();
    }
  };
  std::vector<std::thread> team;
  team.reserve(workers - 1);
  int started = 1;
  try {
    Interrupt* const interrupt = Interrupt::here().of;
    for (; started < workers; ++started)
      team.emplace_back([&guarded, interrupt, worker = started] {
        Interrupt::here() = {interrupt, false};
        guarded(worker);
      });
  } catch (const std::exception&) {
    // The system grants no more threads, or no memory for them: the caller does the remaining parts itself, same cuts.
  }
  guarded(0);
  for (int worker = started; worker < workers; ++worker) guarded(worker);
  for (auto& thread : team) thread.join();
  for (const auto& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

// Calls f(begin, end, worker) for each part of [0, n); parts differ in length by at most one.
template <class F>
void parallel_for(std::int64_t n, int threads, F&& f) {
  const int workers = worker_count(n, threads);
  parallel_run(workers, [&](int worker) {
    const std::int64_t begin = part_begin(n, workers, worker);
    const std::int64_t end = part_begin(n, workers, worker + 1);
    if (begin < end) f(begin, end, worker);
  });
}

// First row of part `part` when rows 0 .. n-1 are cut so that each part holds about the same work,
// counting `offsets[i+1] - offsets[i] + 1` for row i. offsets is [n+1], nondecreasing.
template <class Offset>
std::int64_t balanced_begin(const Offset* offsets, std::int64_t n, int parts, int part) {
  if (part <= 0) return 0;
  if (part >= parts) return n;
  const std::int64_t base = static_cast<std::int64_t>(offsets[0]);
  const std::int64_t total = static_cast<std::int64_t>(offsets[n]) - base + n;
  const std::int64_t goal = part_begin(total, parts, part);
  std::int64_t low = 0, high = n;  // smallest row whose work before it reaches the goal
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    if (static_cast<std::int64_t>(offsets[middle]) - base + middle < goal)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

// As parallel_for over n rows, with the cuts placed by `balanced_begin`.
template <class Offset, class F>
void parallel_for_balanced(const Offset* offsets, std::int64_t n, int threads, F&& f) {
  const int workers = worker_count(n, threads);
  parallel_run(workers, [&](int worker) {
    const std::int64_t begin = balanced_begin(offsets, n, workers, worker);
    const std::int64_t end = balanced_begin(offsets, n, workers, worker + 1);
    if (begin < end) f(begin, end, worker);
  });
}

}  // namespace torch_sla
