$PROBLEM labels in comments as variables
$DATA data.txt IGNORE=#
$INPUT ID TIME CONC DV
$PRED
E0 = POP_E0*EXP(ppv_e0)
EC50 = POP_EC50*EXP(PPV_EC50)
SLOPE = 1
Y = E0 - CONC/(CONC + EC50) + RUV*SLOPE
$THETA
(0,150) ; POP_E0 1
(0,10)  ; 2. pop_ec50, ng/mL
1 FIX   ; SLOPE is a variable of its own
$OMEGA
0.5 ; PPV_E0 1
0.5 ;PPV_EC50 (variance)
$SIGMA
100 ; RUV
$ESTIMATION METHOD=0
