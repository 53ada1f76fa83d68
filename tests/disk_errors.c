// Makes files that cannot be opened, as a disk that is broken, full or closed would: `…/error-5.bin` fails with the system's error 5.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static int refused(const char *path) {
  const char *name = path ? strstr(path, "/error-") : NULL;
  return name ? atoi(name + strlen("/error-")) : 0;
}

#define OPEN(name)                                                          \
  int name(const char *path, int flags, ...) {                              \
    static int (*real)(const char *, int, ...);                             \
    if (!real) real = dlsym(RTLD_NEXT, #name);                              \
    va_list more;                                                           \
    va_start(more, flags);                                                  \
    int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0;       \
    va_end(more);                                                           \
    if (refused(path)) {                                                    \
      errno = refused(path);                                                \
      return -1;                                                            \
    }                                                                       \
    return real(path, flags, mode);                                         \
  }

OPEN(open)
OPEN(open64)
