/* The interpreter that polyarch registers in a build's own binfmt_misc instead of qemu.
 *
 * The kernel hands it each foreign program that is executed (flags PF: argv is INTERPRETER, PATH, ARGV0, ARGS…). When the
 * table (a folder, TABLE) knows that exact file, by its build id and size, its native twin is executed through the twin's
 * own loader; anything else, and whatever a native program would not do in the same way, goes to qemu.
 *
 * Freestanding (no libc, no start-up code), because it starts once for each process of a build. It never writes to
 * the image and holds nothing open over the last execve(2).
 *
 * by-id/HEX  one twin: fields that end in NUL, the first byte of each says what it is
 *     s BYTES     size that the foreign file must have      l PATH  loader     L PATHS  library path     p PATH  program
 *     + ARG       put in front of the arguments             & ARG   put behind them
 *     = OLD > NEW an argument that is exchanged              - ARG  with this argument (a prefix, if it ends in *): qemu
 *     e NAME      with this variable: qemu                  x PATH  if this exists: qemu
 *     ? SCRIPT    only if the first argument that is no option is one of these
 * qemu/MACHINE-CLASS-DATA   the emulators, named by numbers of the ELF header
 * count/log                 records of 64 bytes, one a program: twin ('t') or why not, class, data, machine, name
 *
 * Sources: Documentation/admin-guide/binfmt-misc.rst; System V gABI, "Note Section"; ld.so(8); qemu's linux-user/main.c.
 */

#include "bare.h"

#include <elf.h>
#include <linux/mman.h>
#include <linux/stat.h>
#include <linux/xattr.h>

#ifndef TABLE
#define TABLE "/proc/sys/fs/binfmt_misc" /* see program.py */
#endif
#define MOST_NOTES (1 << 16)
#define RECORD 64
#define EMBEDDED 0x20000000 /* where program.py has the emulator mapped that it appends to this file */

enum why { TWIN = 't', UNKNOWN = 'u', SIZE = 's', PRIVILEGE = 'p', LOADER = 'l', TRACED = 'd', LOCALE = 'c', ARGUMENT = 'a', BROKEN = 'b' };

struct twin {
    const char *loader, *libraries, *program;
    char *fields, *end;
};

static char notes[MOST_NOTES], fields[1 << 13];

/* The whole of a small file; its size, 0 when there is none or it does not fit. */
static long slurp(const char *path, char *to, long room)
{
    long got, size = 0;
    int file = open_file(path, O_RDONLY);
    if (file < 0)
        return 0;
    while ((got = CALL(SYS_read, file, to + size, room - size, 0)) > 0)
        size += got;
    CALL(SYS_close, file, 0, 0, 0);
    return got < 0 || size == room ? 0 : size;
}

/* A number of an ELF file of either byte order. */
static uint64_t number(const unsigned char *at, int bytes, int big)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << 8 * (big ? bytes - 1 - i : i);
    return value;
}

/* Append the build id in hexadecimal that these notes hold; 0 when they hold none. */
static int id_in_notes(const char *at, const char *end, int big, char *hex)
{
    while (end - at >= 12) {
        uint64_t name = number((void *)at, 4, big), desc = number((void *)(at + 4), 4, big);
        uint64_t type = number((void *)(at + 8), 4, big), padded = (name + 3) & ~3ull;
        const char *value = at + 12 + padded;
        if (padded + ((desc + 3) & ~3ull) > (uint64_t)(end - at - 12))
            return 0;
        if (type == NT_GNU_BUILD_ID && name == 4 && same(at + 12, "GNU") && desc && desc <= 64) {
            for (uint64_t i = 0; i < desc; i++) {
                *hex++ = "0123456789abcdef"[(value[i] >> 4) & 15];
                *hex++ = "0123456789abcdef"[value[i] & 15];
            }
            *hex = 0;
            return 1;
        }
        at = value + ((desc + 3) & ~3ull);
    }
    return 0;
}

/* Find the build id of a file whose first bytes are `head`; `hex` has room for 64 bytes of id. */
static int build_id(int file, const unsigned char *head, long got, char *hex)
{
    int wide = head[EI_CLASS] == ELFCLASS64, big = head[EI_DATA] == ELFDATA2MSB;
    uint64_t table = number(head + (wide ? 32 : 28), wide ? 8 : 4, big);
    uint64_t entry = number(head + (wide ? 54 : 42), 2, big), count = number(head + (wide ? 56 : 44), 2, big);
    if (entry < (wide ? 56 : 32) || table > (uint64_t)got || count * entry > (uint64_t)got - table)
        return 0;
    for (const unsigned char *at = head + table; count--; at += entry) {
        uint64_t offset = number(at + (wide ? 8 : 4), wide ? 8 : 4, big);
        uint64_t size = number(at + (wide ? 32 : 16), wide ? 8 : 4, big);
        if (number(at, 4, big) != PT_NOTE || size > MOST_NOTES)
            continue;
        const char *found = (const char *)head + offset;
        if (offset > (uint64_t)got || size > (uint64_t)got - offset) {
            if (CALL(SYS_pread64, file, notes, size, offset) != (long)size)
                continue;
            found = notes;
        }
        if (id_in_notes(found, found + size, big, hex))
            return 1;
    }
    return 0;
}

static const char *variable(char **env, const char *name)
{
    for (size_t size = length(name); *env; env++)
        if (begins(*env, name) && (*env)[size] == '=')
            return *env + size + 1;
    return NULL;
}

/* What the native loader would not do as the foreign one does (libraries of the foreign root, tracing of the loader). */
static int loader_is_told(char **env)
{
    static const char *const harmless[] = {"LD_LIBRARY_PATH=", "LD_RUN_PATH=", "LD_BIND_NOW=", NULL};
    for (; *env; env++) {
        int known = !begins(*env, "LD_");
        for (const char *const *name = harmless; !known && *name; name++)
            known = begins(*env, *name);
        if (!known || begins(*env, "GCONV_PATH=") || begins(*env, "LOCPATH="))
            return 1;
    }
    return CALL(SYS_faccessat, AT_FDCWD, "/etc/ld.so.preload", 0, 0) == 0;
}

static int ends(const char *text, const char *end)
{
    size_t size = length(text), less = length(end);
    return size >= less && same(text + size - less, end);
}

/* Locales are files of the root in its own byte order, and other character sets than UTF-8 are libraries of it; only
 * C and POSIX are built into every libc. */
static int locale_is_foreign(const unsigned char *head, char **env)
{
    int other = (head[EI_DATA] == ELFDATA2MSB) != (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__);
    for (; *env; env++) {
        if (!begins(*env, "LANG=") && !begins(*env, "LC_"))
            continue;
        const char *value = *env;
        while (*value && *value++ != '=')
            ;
        if (!*value || same(value, "C") || same(value, "POSIX"))
            continue;
        if (other || !(ends(value, ".UTF-8") || ends(value, ".utf8")))
            return 1;
    }
    return 0;
}

static int is_traced(void)
{
    long size = slurp("/proc/self/status", notes, sizeof notes);
    for (char *at = notes; at < notes + size; at++)
        if (begins(at, "TracerPid:\t"))
            return at[11] != '0';
    return 0;
}

static int is_privileged(int file, const struct statx *about)
{
    return (about->stx_mode & 06000) || CALL(SYS_fgetxattr, file, XATTR_NAME_CAPS, NULL, 0) > 0;
}

/* Whether an argument, a variable or a file makes the twin's answer another one. */
static int is_refused(const struct twin *twin, char **args, char **env)
{
    int limited = 0, known = 0;
    char **script = args;
    while (*script && **script == '-')
        script++;
    for (const char *field = twin->fields; field < twin->end; field += length(field) + 1) {
        if (*field == 'e' && variable(env, field + 1))
            return 1;
        if (*field == 'x' && CALL(SYS_faccessat, AT_FDCWD, field + 1, 0, 0) == 0)
            return 1;
        if (*field == '?')
            limited = 1, known |= *script && same(*script, field + 1);
        if (*field != '-')
            continue;
        size_t size = length(++field);
        for (char **arg = args; *arg; arg++) {
            size_t i = 0;
            while (i < size && field[i] == (*arg)[i])
                i++;
            if ((i == size && !(*arg)[i]) || (i == size - 1 && field[i] == '*'))
                return 1;
        }
    }
    return limited && !known;
}

/* Read the twin's record; TWIN, or why there is none. */
static enum why look_up(const char *hex, const struct statx *about, struct twin *twin)
{
    char path[sizeof TABLE + 160], size[24];
    put(put(path, TABLE "/by-id/"), hex);
    long got = slurp(path, fields, sizeof fields);
    if (!got)
        return UNKNOWN;
    put_number(size, about->stx_size);
    int fits = 0;
    twin->fields = fields, twin->end = fields + got;
    for (char *field = fields; field < twin->end; field += length(field) + 1) {
        fits |= *field == 's' && same(field + 1, size);
        twin->loader = *field == 'l' ? field + 1 : twin->loader;
        twin->libraries = *field == 'L' ? field + 1 : twin->libraries;
        twin->program = *field == 'p' ? field + 1 : twin->program;
    }
    return !fits ? SIZE : twin->loader && twin->libraries && twin->program ? TWIN : BROKEN;
}

static enum why judge(int file, const unsigned char *head, long got, char **args, char **env, struct twin *twin)
{
    char hex[129];
    struct statx about;
    if (!build_id(file, head, got, hex) || CALL(SYS_faccessat, AT_FDCWD, TABLE "/by-id", 0, 0))
        return UNKNOWN;
    if (call(SYS_statx, file, (long)"", AT_EMPTY_PATH, STATX_MODE | STATX_SIZE, (long)&about, 0))
        return BROKEN;
    enum why why = look_up(hex, &about, twin);
    if (why != TWIN)
        return why;
    if (is_privileged(file, &about))
        return PRIVILEGE;
    if (loader_is_told(env))
        return LOADER;
    if (locale_is_foreign(head, env))
        return LOCALE;
    if (is_refused(twin, args, env))
        return ARGUMENT;
    return is_traced() ? TRACED : TWIN;
}

static void count(enum why why, const unsigned char *head, const char *path)
{
    uint64_t machine = number(head + 18, 2, head[EI_DATA] == ELFDATA2MSB);
    char record[RECORD] = {(char)why, (char)head[EI_CLASS], (char)head[EI_DATA], (char)machine, (char)(machine >> 8)};
    const char *name = path;
    for (const char *at = path; *at; at++)
        name = *at == '/' ? at + 1 : name;
    for (int i = 5; *name && i < RECORD; i++)
        record[i] = *name++;
    int file = open_file(TABLE "/count/log", O_WRONLY | O_APPEND);
    if (file < 0)
        return;
    CALL(SYS_write, file, record, RECORD, 0);
    CALL(SYS_close, file, 0, 0, 0);
}

static char *exchanged(const struct twin *twin, char *arg)
{
    for (char *field = twin->fields; field < twin->end; field += length(field) + 1)
        if (*field == '=' && same(field + 1, arg) && field[length(field) + 1] == '>')
            return field + length(field) + 2;
    return arg;
}

static char **put_fields(const struct twin *twin, char kind, char **to)
{
    for (char *field = twin->fields; field < twin->end; field += length(field) + 1)
        if (*field == kind)
            *to++ = field + 1;
    return to;
}

static void run_twin(const struct twin *twin, char **to, char *argv0, char **args, char **env)
{
    char **at = to;
    const char *const front[] = {twin->loader, "--argv0", argv0, "--inhibit-cache", "--library-path", twin->libraries, twin->program};
    for (size_t i = 0; i < sizeof front / sizeof *front; i++)
        *at++ = (char *)front[i];
    at = put_fields(twin, '+', at);
    while (*args)
        *at++ = exchanged(twin, *args++);
    at = put_fields(twin, '&', at);
    *at = NULL;
    CALL(SYS_execve, twin->loader, to, env, 0);
}

static void run_qemu(const unsigned char *head, char **to, char *path, char *argv0, char **args, char **env)
{
    char qemu[sizeof TABLE + 64], **at = to;
    int big = head[EI_DATA] == ELFDATA2MSB;
    char *end = put_number(put(qemu, TABLE "/qemu/"), number(head + 18, 2, big));
    put_number(put(put_number(put(end, "-"), head[EI_CLASS]), "-"), head[EI_DATA]);
    /* -0 is how every qemu takes argv[0]; the flag P would have to come from the kernel. */
    char *const front[] = {qemu, "-0", argv0, "--", path};
    for (size_t i = 0; i < sizeof front / sizeof *front; i++)
        *at++ = front[i];
    while ((*at++ = *args++))
        ;
    CALL(SYS_execve, qemu, to, env, 0);
}

/* The emulator that this file brings along, for roots in which the table is not visible (a chroot of the build's own). */
static void run_embedded(const long *stack, char **to, char **env)
{
    const Elf64_Phdr *segment = NULL;
    long count = 0;
    while (*stack++) /* the environment; the auxiliary vector follows */
        ;
    for (; *stack != AT_NULL; stack += 2) {
        segment = *stack == AT_PHDR ? (const Elf64_Phdr *)stack[1] : segment;
        count = *stack == AT_PHNUM ? stack[1] : count;
    }
    for (; segment && count--; segment++) {
        if (segment->p_type != PT_LOAD || segment->p_vaddr != EMBEDDED)
            continue;
        long file = CALL(SYS_memfd_create, "qemu", 1 /* close on exec */, 0, 0), written = 0, got = 1;
        for (; got > 0 && written < (long)segment->p_filesz; written += got)
            got = CALL(SYS_write, file, EMBEDDED + written, segment->p_filesz - written, 0);
        call(SYS_execveat, file, (long)"", (long)to, (long)env, AT_EMPTY_PATH, 0);
    }
}

/* `stack` is as the kernel left it: argc, argv, NULL, environment, NULL. */
__attribute__((noreturn, used)) void start(long *stack)
{
    static unsigned char head[1 << 12];
    long argc = stack[0], status = 126;
    char **argv = (char **)(stack + 1), **env = argv + argc + 1;
    struct twin twin = {0};
    if (argc >= 3) {
        int file = open_file(argv[1], O_RDONLY);
        long got = file < 0 ? 0 : CALL(SYS_pread64, file, head, sizeof head, 0);
        size_t room = (size_t)(argc + 16) * sizeof(char *) + sizeof fields * sizeof(char *) / 2;
        long made = call(SYS_mmap, 0, (long)room, PROT_READ | PROT_WRITE, 0x22 /* private, anonymous */, -1, 0);
        if (got >= 64 && made > 0) {
            enum why why = judge(file, head, got, argv + 3, env, &twin);
            count(why, head, argv[1]);
            if (why == TWIN)
                run_twin(&twin, (char **)made, argv[2], argv + 3, env);
            run_qemu(head, (char **)made, argv[1], argv[2], argv + 3, env);
            run_embedded((long *)env, (char **)made, env);
        }
        CALL(SYS_write, 2, "polyarch: the emulator cannot be executed\n", 42, 0);
    }
    for (;;)
        CALL(SYS_exit_group, status, 0, 0, 0);
}
