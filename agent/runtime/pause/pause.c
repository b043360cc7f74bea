/*
 * PID 1 of a task's sandbox: it holds the namespaces open and does nothing else.
 *
 * It waits for signals, reaps orphaned children (of containers that share its PID namespace), and
 * exits with 0 on SIGTERM and SIGINT, so that a sandbox stops at once. It uses no C library: the
 * whole image is this one file.
 *
 * A signal to exit counts only if it comes from outside the PID namespace: containers that share the
 * namespace cannot end it, and with it each other ("kill 1", "kill -1").
 *
 * All signals are blocked and read from the queue. For PID 1 the kernel drops signals that are
 * neither handled nor blocked, so SIGTERM would not arrive otherwise; and no signal can be lost
 * between two waits.
 */

typedef unsigned long word;

enum { SIGINT_NUMBER = 2, SIGTERM_NUMBER = 15, SIGCHLD_NUMBER = 17 };
enum { HOW_BLOCK = 0, NO_HANG = 1, ANY_CHILD = -1 };

/* What the kernel tells of a signal: its size, and where the sender's process id is in it. */
enum { INFO_INTS = 32, SENDER_AT = 4 };

#if defined(__x86_64__)

enum {
    SYS_RT_SIGPROCMASK = 14,
    SYS_GETPID = 39,
    SYS_EXIT = 60,
    SYS_WAIT4 = 61,
    SYS_RT_SIGTIMEDWAIT = 128
};

static long call4(long number, long a, long b, long c, long d)
{
    register long fourth __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "+a"(number)
                     : "D"(a), "S"(b), "d"(c), "r"(fourth)
                     : "rcx", "r11", "memory");
    return number;
}

#elif defined(__aarch64__)

enum {
    SYS_EXIT = 93,
    SYS_RT_SIGPROCMASK = 135,
    SYS_RT_SIGTIMEDWAIT = 137,
    SYS_GETPID = 172,
    SYS_WAIT4 = 260
};

static long call4(long number, long a, long b, long c, long d)
{
    register long eighth __asm__("x8") = number;
    register long first __asm__("x0") = a;
    register long second __asm__("x1") = b;
    register long third __asm__("x2") = c;
    register long fourth __asm__("x3") = d;
    __asm__ volatile("svc 0"
                     : "+r"(first)
                     : "r"(eighth), "r"(second), "r"(third), "r"(fourth)
                     : "memory");
    return first;
}

#else
#error "the pause program supports only x86-64 and arm64"
#endif

__attribute__((noreturn)) void _start(void)
{
    const word every_signal = ~0UL;
    const long set = (long)&every_signal;
    int info[INFO_INTS];

    call4(SYS_RT_SIGPROCMASK, HOW_BLOCK, set, 0, sizeof every_signal);
    const int is_init = call4(SYS_GETPID, 0, 0, 0, 0) == 1;
    for (;;) {
        long signal = call4(SYS_RT_SIGTIMEDWAIT, set, (long)info, 0, sizeof every_signal);
        if (signal == SIGTERM_NUMBER || signal == SIGINT_NUMBER) {
            /* A sender outside of this PID namespace has no process id in it. */
            if (is_init && info[SENDER_AT] != 0)
                continue;
            for (;;)
                call4(SYS_EXIT, 0, 0, 0, 0);
        }
        if (signal == SIGCHLD_NUMBER)
            while (call4(SYS_WAIT4, ANY_CHILD, 0, NO_HANG, 0) > 0)
                ;
    }
}
