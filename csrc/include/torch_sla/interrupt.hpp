// Lets someone end long kernels from outside.
//
// Kernels call `check_interrupt` between parts of their work: every parallel region does when it begins, and so do
// loops whose parts are long. Where nobody asked for it that is a look at a null pointer. Where somebody did, by an
// `Interrupt` on the thread that calls the kernel, this thread calls `poll` some times a second; when that throws, the
// threads of the kernel stop at their next check, and its exception arrives at the caller.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <exception>

namespace torch_sla {

// What threads of a kernel throw that are stopped because another one was.
struct Interrupted : std::exception {
  const char* what() const noexcept override { return "interrupted"; }
};

namespace detail {

// Milliseconds of some clock: the cheapest that there is.
inline std::int64_t milliseconds() {
#ifdef CLOCK_MONOTONIC_COARSE
  timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return std::int64_t(now.tv_sec) * 1000 + now.tv_nsec / 1000000;
#else
  using namespace std::chrono;
  return duration_cast<std::chrono::milliseconds>(steady_clock::now().time_since_epoch()).count();
#endif
}

}  // namespace detail

class Interrupt {
 public:
  using Poll = void (*)();
  static constexpr std::int64_t kEvery = 50;  // milliseconds between calls of `poll`

  // Who is asked on this thread, and whether it is the one that asked for it.
  struct Place {
    Interrupt* of = nullptr;
    bool owner = false;
  };
  static Place& here() {
    static thread_local Place place;
    return place;
  }

  // While it lives kernels of this thread, and threads they start, can be ended by what `poll` throws; null: they cannot.
  explicit Interrupt(Poll poll) : poll_(poll), before_(here()) {
    if (poll) here() = {this, true};
  }
  ~Interrupt() {
    if (poll_) here() = before_;
  }
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  void check(bool owner) {
    if (raised_.load(std::memory_order_relaxed)) throw Interrupted();
    if (!owner) return;
    const std::int64_t now = detail::milliseconds();
    if (next_ == 0) next_ = now + kEvery;  // most kernels end before anyone is asked
    if (now < next_) return;
    try {
      poll_();
    } catch (...) {
      raised_.store(true, std::memory_order_relaxed);
      throw;
    }
    next_ = detail::milliseconds() + kEvery;
  }

 private:
  Poll poll_;
  Place before_;
  std::int64_t next_ = 0;
  std::atomic<bool> raised_{false};
};

inline void check_interrupt() {
  const Interrupt::Place place = Interrupt::here();
  if (place.of) place.of->check(place.owner);
}

}  // namespace torch_sla
