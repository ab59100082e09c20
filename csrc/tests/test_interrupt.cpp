#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

#include "check.hpp"
#include "torch_sla/parallel.hpp"

using namespace torch_sla;

namespace {

std::atomic<int> asked{0};
std::thread::id caller;

void twice_then_stop() {
  CHECK(std::this_thread::get_id() == caller);
  if (++asked == 3) throw std::runtime_error("stop");
}

}  // namespace

int main() {
  check_interrupt();  // nobody asked for it: nothing happens
  caller = std::this_thread::get_id();

  // All threads of a kernel end, and what the caller's poll threw arrives, from regions inside regions, too.
  for (int threads : {1, 3}) {
    asked = 0;
    std::atomic<int> ended{0};
    std::string message;
    {
      const Interrupt interrupt(&twice_then_stop);
      try {
        parallel_run(threads, [&](int) {
          try {
            while (true)
              parallel_for(2, 2, [&](std::int64_t, std::int64_t, int) {
                check_interrupt();
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
              });
          } catch (...) {
            ++ended;
            throw;
          }
        });
      } catch (const std::runtime_error& error) {
        message = error.what();
      }
      // A kernel that is called by whatever `poll` runs is one of its own.
      const Interrupt inner([] { throw std::logic_error("not asked"); });
      check_interrupt();
    }
    CHECK(message == "stop" && ended == threads && asked == 3);
  }

  // What has ended is asked no more.
  asked = 0;
  for (int k = 0; k < 200; ++k) {
    check_interrupt();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(asked == 0 && Interrupt::here().of == nullptr);
  return failures();
}
