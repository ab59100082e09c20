#include <atomic>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>

#include "check.hpp"
#include "torch_sla/parallel.hpp"

using namespace torch_sla;

// Requests for memory on this thread until one is refused; negative: none is.
thread_local int refused = -1;

void* operator new(std::size_t size) {
  if (refused >= 0 && refused-- == 0) throw std::bad_alloc();
  if (void* p = std::malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

int main() {
  // Every index is visited once, by parts that differ by at most one, whatever the counts.
  for (std::int64_t n : {0, 1, 2, 5, 64, 1001})
    for (int threads : {-3, 0, 1, 2, 3, 8}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(n));
      parallel_for(n, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
        CHECK(begin < end && worker < worker_count(n, threads));
        CHECK(end - begin <= n / worker_count(n, threads) + 1);
        for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
      });
      for (auto& count : visits) CHECK(count == 1);
    }

  // Balanced cuts rise, cover everything and split the work, not the rows.
  const std::vector<int> offsets = {0, 0, 90, 91, 92, 93, 100, 100};
  const std::int64_t n = 7;
  for (int parts = 1; parts <= 7; ++parts) {
    CHECK(balanced_begin(offsets.data(), n, parts, 0) == 0);
    CHECK(balanced_begin(offsets.data(), n, parts, parts) == n);
    for (int part = 0; part < parts; ++part)
      CHECK(balanced_begin(offsets.data(), n, parts, part) <=
            balanced_begin(offsets.data(), n, parts, part + 1));
  }
  CHECK(balanced_begin(offsets.data(), n, 2, 1) == 2);  // the heavy row alone fills the first half

  // A failure in any worker reaches the caller after all have ended; the first worker's wins.
  std::atomic<int> ended{0};
  std::string message;
  try {
    parallel_run(4, [&](int worker) {
      ++ended;
      if (worker >= 1) throw std::runtime_error(std::to_string(worker));
    });
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  CHECK(message == "1" && ended == 4);

  // Where memory runs out while threads are started, those that run are waited for: either all parts are done, or
  // the caller hears of it.
  for (int after = 0; after < 5; ++after) {
    std::atomic<int> parts{0};
    bool told = false;
    refused = after;
    try {
      parallel_run(4, [&](int) { ++parts; });
    } catch (const std::bad_alloc&) {
      told = true;
    }
    refused = -1;
    CHECK(told ? parts == 0 : parts == 4);
  }
  return failures();
}
