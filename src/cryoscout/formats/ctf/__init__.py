"""CTF results of the programs that fit them: CTFFIND, GCTF, RELION, cryoSPARC."""
