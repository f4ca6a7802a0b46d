/* squeeze: compresses its own name a thousand times over, and says where. */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <zlib.h>

int main(int argc, char **argv)
{
    static unsigned char text[1 << 14], packed[1 << 15];
    struct utsname system;
    uLongf length = sizeof packed;
    size_t used = 0, name = strlen(argv[0]);

    (void)argc;
    while (used + name < sizeof text) {
        memcpy(text + used, argv[0], name);
        used += name;
    }
    if (uname(&system) != 0 || compress(packed, &length, text, used) != Z_OK)
        return 1;
    printf("zlib %s on %s: %s\n", zlibVersion(), system.machine, length < used / 10 ? "squeezed" : "did not squeeze");
    return 0;
}
