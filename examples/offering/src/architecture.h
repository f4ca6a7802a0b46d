/* What the compiler made this program for, in the words of OCI image indexes. */
#ifndef OFFERING_ARCHITECTURE_H
#define OFFERING_ARCHITECTURE_H

#if defined(__x86_64__)
#define OFFERING_PLATFORM "linux/amd64"
#elif defined(__i386__)
#define OFFERING_PLATFORM "linux/386"
#elif defined(__aarch64__)
#define OFFERING_PLATFORM "linux/arm64"
#elif defined(__arm__) && defined(__ARM_ARCH) && __ARM_ARCH >= 7
#define OFFERING_PLATFORM "linux/arm/v7"
#elif defined(__arm__) && defined(__ARM_ARCH) && __ARM_ARCH == 6
#define OFFERING_PLATFORM "linux/arm/v6"
#elif defined(__arm__)
#define OFFERING_PLATFORM "linux/arm/v5"
#elif defined(__s390x__)
#define OFFERING_PLATFORM "linux/s390x"
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define OFFERING_PLATFORM "linux/ppc64le"
#elif defined(__powerpc64__)
#define OFFERING_PLATFORM "linux/ppc64"
#elif defined(__riscv) && __riscv_xlen == 64
#define OFFERING_PLATFORM "linux/riscv64"
#elif defined(__loongarch64)
#define OFFERING_PLATFORM "linux/loong64"
#elif defined(__mips64) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define OFFERING_PLATFORM "linux/mips64le"
#else
#error "architecture.h does not know this processor: add its OCI name"
#endif

#endif
