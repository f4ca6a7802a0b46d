package hello;

/** Says on which machine it runs. */
public final class Hello {
    private Hello() {
    }

    public static void main(String[] arguments) {
        System.out.printf("hello from Java %s on %s%n",
            Runtime.version().feature(), System.getProperty("os.arch"));
    }
}
