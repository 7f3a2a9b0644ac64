// A pool of threads that run numbered tasks; which thread runs a task never changes what the task computes.
//
// std::thread rather than OpenMP: one code for GCC, Clang, Apple's Clang and MSVC.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <unistd.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

class Pool {
 public:
  // Never destroyed: at exit the operating system ends the threads, whatever they wait for.
  static Pool& instance() {
    static std::mutex guard;
    static Pool* pool = nullptr;
    std::lock_guard<std::mutex> lock(guard);
    // After a fork only the calling thread exists; the parent's pool is abandoned, not joined.
    if (!pool || pool->owner_ != process()) pool = new Pool();
    return *pool;
  }

  int threads() const { return threads_; }

  void set_threads(int count) {
    std::lock_guard<std::mutex> lock(region_);
    threads_ = count < 1 ? 1 : count;
  }

  // Run task(0, worker) ... task(count - 1, worker), each once, and return when all are done; an exception of a task ends
  // the run and comes out here. `worker` is below threads() and `limit`: it lets a task find memory of its own.
  template <class Task>
  void run(int64_t count, const Task& task, int limit = 1 << 20) {
    if (count <= 0) return;
    std::lock_guard<std::mutex> lock(region_);
    if (threads_ == 1 || limit == 1 || count == 1) {
      for (int64_t i = 0; i < count; ++i) task(i, 0);
      return;
    }
    int helpers = hire(std::min({threads_, limit, (int)std::min<int64_t>(count, 1 << 20)}) - 1);
    next_.store(0);
    std::exception_ptr failure;
    std::mutex failing;
    auto drain = [this, count, &task, &failure, &failing](int worker) {
      try {
        for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count;) task(i, worker);
      } catch (...) {
        std::lock_guard<std::mutex> lock(failing);
        if (!failure) failure = std::current_exception();
        next_.store(count);
      }
    };
    busy_.store(helpers);
    {
      std::lock_guard<std::mutex> wake(mutex_);
      work_ = drain;
      invited_ = helpers;
      epoch_.fetch_add(1);
    }
    wake_.notify_all();
    drain(0);
    // A helper that lost its core needs this one more than the waiting does.
    for (int spin = 0; busy_.load(std::memory_order_acquire) > 0; ++spin) spin < 2000 ? pause() : std::this_thread::yield();
    if (failure) std::rethrow_exception(failure);
  }

 private:
  // Up to `wanted` helpers; fewer where the operating system gives no more threads.
  int hire(int wanted) {
    try {
      while ((int)workers_.size() < wanted) workers_.emplace_back([this, id = (int)workers_.size()] { serve(id); });
    } catch (const std::system_error&) {
    }
    return std::min(wanted, (int)workers_.size());
  }

  static long process() {
#if defined(_WIN32)
    return 0;
#else
    return (long)getpid();
#endif
  }

  static void pause() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#else
    std::this_thread::yield();
#endif
  }

  void serve(int id) {
    uint64_t seen = 0;
    while (true) {
      // A training step is two dozen regions within milliseconds: look for the next one a while before sleeping, and let
      // other threads have the core meanwhile.
      for (int spin = 0; spin < 4000 && epoch_.load(std::memory_order_acquire) == seen; ++spin)
        spin < 1000 ? pause() : std::this_thread::yield();
      std::function<void(int)>* work = nullptr;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return epoch_.load() != seen; });
        seen = epoch_.load();
        if (id < invited_) work = &work_;
      }
      if (!work) continue;
      (*work)(id + 1);
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  long owner_ = process();
  int threads_ = 1;
  std::vector<std::thread> workers_;
  std::mutex region_, mutex_;
  std::condition_variable wake_;
  std::function<void(int)> work_;
  int invited_ = 0;
  std::atomic<int64_t> next_{0};
  std::atomic<int> busy_{0};
  std::atomic<uint64_t> epoch_{0};
};
