# Makes a native perl work in a root of another architecture: perl -IFOLDER -MPolyarch=NATIVE,FOREIGN (GNU triplets).
# It looks for modules where the root's own perl does, and loads their native shared objects, which lie beside this file.
package Polyarch;

sub import {
    my (undef, $native, $foreign) = @_;
    my ($folder) = __FILE__ =~ m{^(.*)/};
    delete $INC{'Polyarch.pm'};
    @INC = grep { $_ ne $folder } @INC;
    s{/\Q$native\E(?=/)}{/$foreign} for @INC;
    $^X = '/usr/bin/perl';

    DynaLoader::boot_DynaLoader('DynaLoader') if !defined &DynaLoader::dl_error;
    my $load = \&DynaLoader::dl_load_file;
    local $^W = 0;
    *DynaLoader::dl_load_file = sub {
        my ($file, @rest) = @_;
        $file =~ s{^/usr/lib/\Q$foreign\E/perl-base/}{$folder/};
        $load->($file, @rest);
    };
}

1;
