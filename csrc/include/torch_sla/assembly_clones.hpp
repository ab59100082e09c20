// One source of a loop, compiled for several instruction sets and chosen when the program starts.
#pragma once

// Wider vector units are used where the processor has them, without asking for them at compile time. Sanitizers are
// not there yet when the choice is made.
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define TORCH_SLA_CLONES __attribute__((target_clones("arch=haswell", "default")))
#define TORCH_SLA_INLINE inline __attribute__((always_inline))
#else
#define TORCH_SLA_CLONES
#define TORCH_SLA_INLINE inline
#endif
