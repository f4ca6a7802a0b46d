/* What a program without a C library needs: system calls, an entry point that calls start(), and a few words on strings. */

#include <linux/fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#if defined __x86_64__
static long call(long n, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return result;
}
__asm__(".globl _start\n_start: xor %ebp,%ebp\n mov %rsp,%rdi\n and $-16,%rsp\n call start\n");
#elif defined __aarch64__
static long call(long n, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
__asm__(".globl _start\n_start: mov x29,#0\n mov x0,sp\n bl start\n");
#else
#error "polyarch's dispatcher knows x86-64 and aarch64 hosts"
#endif

#define CALL(n, a, b, c, d) call(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

/* What the compiler may call by itself. */
void *memset(void *to, int byte, size_t count)
{
    for (char *at = to; count--;)
        *at++ = (char)byte;
    return to;
}

void *memcpy(void *to, const void *from, size_t count)
{
    char *at = to;
    for (const char *source = from; count--;)
        *at++ = *source++;
    return to;
}

static size_t length(const char *text)
{
    size_t count = 0;
    while (text[count])
        count++;
    return count;
}

static int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static int begins(const char *text, const char *start)
{
    while (*start && *text == *start)
        text++, start++;
    return !*start;
}

static char *put(char *to, const char *text)
{
    while ((*to = *text++))
        to++;
    return to;
}

static char *put_number(char *to, unsigned long number)
{
    char digits[24], *at = digits + sizeof digits;
    *--at = 0;
    do
        *--at = (char)('0' + number % 10);
    while (number /= 10);
    return put(to, at);
}

static int open_file(const char *path, int flags)
{
    return (int)CALL(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0);
}
